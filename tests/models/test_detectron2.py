"""detectron2's models behind the engine's protocol, with the real library where it is installed."""

from __future__ import annotations

import json
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from engine_fixtures import CLASSES
from region_fixtures import SIZE, TARGETS, assert_learns, pixels, rectangles
from safetensors.torch import save_file

from sskd_core.config.model import ModelConfig
from sskd_core.errors import ConfigError, UserError
from sskd_core.models.build import build_model, construct
from sskd_core.models.predict import make_predictor
from sskd_core.models.trained import model_card

INSTALLED = find_spec("detectron2") is not None
needs_detectron2 = pytest.mark.skipif(not INSTALLED, reason="detectron2 is not installed")
MASK_RCNN = "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x.yaml"
SMALL = {
    "MODEL.RESNETS.DEPTH": 18,
    "MODEL.RESNETS.RES2_OUT_CHANNELS": 64,
    "MODEL.FPN.OUT_CHANNELS": 32,
    "MODEL.FPN.NORM": "GN",  # without weights the frozen batch normalisation of the backbone normalises nothing
    "MODEL.ANCHOR_GENERATOR.SIZES": [[8], [16], [32], [64], [128]],
    "MODEL.RPN.PRE_NMS_TOPK_TRAIN": 40,
    "MODEL.RPN.POST_NMS_TOPK_TRAIN": 40,
    "MODEL.RPN.PRE_NMS_TOPK_TEST": 20,
    "MODEL.RPN.POST_NMS_TOPK_TEST": 20,
    "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": 16,
    "MODEL.ROI_HEADS.SCORE_THRESH_TEST": 0.0,
    "MODEL.ROI_BOX_HEAD.FC_DIM": 32,
    "MODEL.ROI_MASK_HEAD.CONV_DIM": 16,
    "MODEL.ROI_MASK_HEAD.NUM_CONV": 1,
    "TEST.DETECTIONS_PER_IMAGE": 8,
}


def config(**arch) -> ModelConfig:
    return ModelConfig(family="detectron2", arch={"config": MASK_RCNN, "options": SMALL} | arch, input=SIZE)


def small(seed: int = 0, classes: list[str] | None = None, **arch):
    return construct(config(**arch), CLASSES if classes is None else classes, seed)


@pytest.mark.skipif(INSTALLED, reason="detectron2 is installed")
def test_without_the_library_the_error_says_so_in_a_line():
    with pytest.raises(ConfigError, match="the package detectron2 is not installed here; build it") as caught:
        small()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arch", "message"),
    [
        ({"confg": "x.yaml"}, "unknown key 'confg'; did you mean 'config'?"),
        ({}, "set 'config', the path or zoo name of a detectron2 configuration"),
        (
            {"config": "x.py", "options": {"model._target_": "os.system"}},
            "option 'model._target_' must be a public key",
        ),
        ({"config": "x.py", "options": {"model.a": {"_target_": "os.system"}}}, "must be a public key with a number"),
        ({"config": "x.py", "options": {"model.a": ["${oc.env:HOME}"]}}, "must be a public key with a number"),
    ],
    ids=str,
)
def test_what_cannot_be_a_configuration_is_refused(arch, message):
    model = ModelConfig(family="detectron2", arch=arch, input=SIZE)
    with pytest.raises(ConfigError, match="family detectron2: ") as caught:
        construct(model, CLASSES, 0)
    assert message in str(caught.value)


@needs_detectron2
def test_the_losses_are_its_own_and_reach_every_parameter():
    model = small().train()
    torch.manual_seed(0)
    losses = model.losses(pixels(), TARGETS)
    assert losses.keys() == {"cls", "box_reg", "mask", "rpn_cls", "rpn_loc"}
    sum(losses.values()).backward()
    learns = {name for name, value in model.named_parameters() if value.grad is not None}
    assert learns == {name for name, value in model.named_parameters() if value.requires_grad}


@needs_detectron2
def test_its_input_is_0_to_255_in_its_order_of_channels():
    pixel = torch.zeros(1, 3, 32, 32)
    reversed_, straight = small(), small(input_format="RGB")
    red = (torch.tensor([1.0, 0.0, 0.0]) - torch.tensor(SIZE.mean)) / torch.tensor(SIZE.std)
    batch = pixel + red[:, None, None]
    assert reversed_._images(batch)[0, :, 0, 0].tolist() == pytest.approx([0.0, 0.0, 255.0], abs=1e-3)
    assert straight._images(batch)[0, :, 0, 0].tolist() == pytest.approx([255.0, 0.0, 0.0], abs=1e-3)


@needs_detectron2
def test_annotations_are_boxes_masks_and_classes():
    """Asked of the network itself: a head that is given the true boxes crops the true masks."""
    from sskd_core.models.detectron2 import _annotations

    found = _annotations(TARGETS[0], pixels()[0])
    assert found.image_size == (SIZE.height, SIZE.width)
    assert found.gt_boxes.tensor.tolist() == [[8, 4, 40, 30], [50, 20, 90, 60]]
    assert found.gt_classes.tolist() == [0, 2]
    assert torch.equal(found.gt_masks.tensor, TARGETS[0].masks > 0.5)
    assert len(_annotations(rectangles(), pixels()[0])) == 0


@needs_detectron2
def test_predictions_are_those_that_the_library_gives():
    model = small().eval()
    image = np.random.default_rng(0).integers(0, 255, (SIZE.height, SIZE.width, 3)).astype(np.uint8)
    found = make_predictor(model).predict_raw([image])[0]
    tensor = torch.from_numpy(image[:, :, ::-1].copy()).permute(2, 0, 1).float()
    with torch.no_grad():
        expected = model.network([{"image": tensor, "height": SIZE.height, "width": SIZE.width}])[0]["instances"]
    kept = [i for i in expected.scores.argsort(descending=True).tolist() if expected.pred_masks[i].any()]
    assert [item.category for item in found] == [int(expected.pred_classes[i]) for i in kept]
    assert [item.score for item in found] == pytest.approx([float(expected.scores[i]) for i in kept], abs=1e-5)
    same = [float((item.mask == expected.pred_masks[i].numpy()).mean()) for item, i in zip(found, kept, strict=True)]
    assert min(same) > 0.999
    with torch.no_grad():
        output = model(pixels())
    assert output.class_logits[-1].shape[2] == len(CLASSES) + 1
    assert output.mask_logits[-1].shape[2:] == (16, 24)


@needs_detectron2
def test_it_learns_rectangles():
    assert_learns(small(), 0.6)


@needs_detectron2
def test_saved_weights_need_no_configuration_file(tmp_path):
    model = small(seed=5).eval()
    (tmp_path / "config.json").write_text(json.dumps(model_card(model)))
    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, tmp_path / "model.safetensors")
    card = json.loads((tmp_path / "config.json").read_text())["model"]["arch"]
    assert card.keys() == {"resolved"}
    assert card["resolved"]["MODEL"]["ROI_HEADS"]["NUM_CLASSES"] == len(CLASSES)
    again = ModelConfig(family="detectron2", weights=str(tmp_path), input=SIZE)
    loaded = build_model(again, CLASSES, None, seed=0).eval()
    with torch.no_grad():
        ours, theirs = model(pixels()), loaded(pixels())
    assert torch.equal(ours.class_logits[0], theirs.class_logits[0])
    assert torch.equal(ours.mask_logits[0], theirs.mask_logits[0])
    other = build_model(again, ["one"], None, seed=0)
    assert other.network.roi_heads.box_predictor.cls_score.out_features == 2


@needs_detectron2
@pytest.mark.slow
def test_a_lazy_configuration_of_the_zoo_trains_and_predicts():
    options = {"model.backbone.bottom_up.stages.depth": 50}
    model = construct(config(config="common/models/mask_rcnn_fpn.py", options=options), CLASSES, 0)
    assert model.network.roi_heads.num_classes == len(CLASSES)
    losses = model.train().losses(pixels(), TARGETS)
    assert all(torch.isfinite(value) for value in losses.values())
    assert {"cls", "mask"} <= losses.keys()
    with torch.no_grad():
        assert model.eval()(pixels()).mask_logits[-1].shape[2:] == (16, 24)


@needs_detectron2
def test_code_of_a_configuration_runs_only_when_told(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(f"from pathlib import Path\nPath({str(tmp_path / 'ran')!r}).touch()\nmodel = dict()\n")
    with pytest.raises(ConfigError, match=r"is Python code .* set arch\.run_config_code: true"):
        small(config=str(path), options={})
    assert not (tmp_path / "ran").exists()
    with pytest.raises(ConfigError, match="is not valid: TypeError: its model is a DictConfig, not a network"):
        small(config=str(path), options={}, run_config_code=True)
    assert (tmp_path / "ran").exists()


@needs_detectron2
@pytest.mark.parametrize(
    ("arch", "message"),
    [
        ({"config": "no/such.yaml"}, "no configuration 'no/such.yaml', neither as a path nor"),
        ({"options": {"MODEL.NO_SUCH": 1}}, "is not valid: "),
        ({"options": {"MODEL.META_ARCHITECTURE": "NoSuchNet"}}, "is not valid: "),
    ],
    ids=str,
)
def test_a_wrong_configuration_is_one_line(arch, message):
    with pytest.raises(ConfigError) as caught:
        small(**arch)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@needs_detectron2
def test_yaml_that_would_build_objects_is_refused(tmp_path):
    path = tmp_path / "bad.yaml"
    path.write_text("MODEL: !!python/object/apply:os.system ['true']\n")
    with pytest.raises(ConfigError, match="is not valid"):
        small(config=str(path), options={})


@needs_detectron2
def test_a_model_without_masks_is_refused_when_asked_for_some():
    model = small(options=SMALL | {"MODEL.MASK_ON": False}).eval()
    with torch.no_grad(), pytest.raises(UserError, match="gives no instances with masks"):
        model(pixels())
