"""The Mask R-CNN family, against torchvision's own model with the same weights."""

from __future__ import annotations

import json

import pytest
import torch
from engine_fixtures import CLASSES, Rectangles, train_config
from region_fixtures import MASK_RCNN, SIZE, TARGETS, assert_learns, mask_rcnn, mask_rcnn_config, pixels, rectangles
from safetensors.torch import save_file
from torch import nn
from torchvision.models import resnet
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.roi_heads import paste_masks_in_image

from sskd_core.config.train import TrainConfig, TrainStageConfig
from sskd_core.data.loader import BatchLoader
from sskd_core.errors import ConfigError, IntegrityError
from sskd_core.losses.boxes import boxes_of_masks
from sskd_core.losses.choose import criterion_of
from sskd_core.losses.noisy_boundaries import boundary_mask_loss
from sskd_core.losses.set_criterion import Target
from sskd_core.models.build import build_model, construct
from sskd_core.models.mask_rcnn import MaskRcnn
from sskd_core.models.trained import model_card
from sskd_core.strategies.base import targets_of
from sskd_core.strategies.semi_supervised import SemiSupervised


class AsIs(nn.Module):
    """Stands in for torchvision's resizing and normalising: our input is ready."""

    def forward(self, images, targets=None):
        return ImageList(torch.stack(images), [tuple(image.shape[1:]) for image in images]), targets

    def postprocess(self, result, shapes, originals):
        return result


def reference(model: MaskRcnn) -> MaskRCNN:
    """Return torchvision's Mask R-CNN with the weights of ours; its mask logits have a row for the background."""
    body = resnet.ResNet(resnet.BasicBlock, [2, 2, 2, 2])
    layers = {f"layer{number}": str(number - 1) for number in (1, 2, 3, 4)}
    rows = len(CLASSES) + 1
    sides = tuple((side,) for side in MASK_RCNN["anchor_sizes"])
    theirs = MaskRCNN(
        BackboneWithFPN(body, layers, [64, 128, 256, 512], 32),
        rpn_anchor_generator=AnchorGenerator(sides, ((0.5, 1.0, 2.0),) * 5),
        rpn_pre_nms_top_n_train=40,
        rpn_post_nms_top_n_train=40,
        rpn_pre_nms_top_n_test=20,
        rpn_post_nms_top_n_test=20,
        box_head=TwoMLPHead(32 * 49, 32),
        box_predictor=FastRCNNPredictor(32, rows),
        box_score_thresh=0.0,
        box_detections_per_img=8,
        box_batch_size_per_image=16,
        mask_head=MaskRCNNHeads(32, (32,) * 4, 1),
        mask_predictor=MaskRCNNPredictor(32, 32, rows),
    )
    theirs.transform = AsIs()
    weights = {}
    for name, value in model.state_dict().items():
        if "mask_fcn_logits" in name:
            value = torch.cat([torch.zeros_like(value[:1]), value])
        name = name.replace("mask_head.convs.", "roi_heads.mask_head.")
        weights[name.replace("mask_head.predictor.", "roi_heads.mask_predictor.")] = value
    theirs.load_state_dict(weights)
    return theirs


def their_targets(targets: list[Target]) -> list[dict[str, torch.Tensor]]:
    side = torch.tensor([SIZE.width, SIZE.height] * 2)
    return [
        {"boxes": boxes_of_masks(item.masks) * side, "labels": item.labels + 1, "masks": item.masks.byte()}
        for item in targets
    ]


NAMES = {
    "objectness": "loss_objectness",
    "rpn_box": "loss_rpn_box_reg",
    "class": "loss_classifier",
    "box": "loss_box_reg",
    "mask": "loss_mask",
}


def test_the_losses_are_torchvision_s():
    model = mask_rcnn().train()
    theirs = reference(model).train()
    torch.manual_seed(3)
    ours = model.losses(pixels(), TARGETS)
    torch.manual_seed(3)
    expected = theirs(list(pixels()), their_targets(TARGETS))
    assert ours.keys() == NAMES.keys()
    for name, value in ours.items():
        assert torch.allclose(value, expected[NAMES[name]], atol=1e-6), name


def test_the_detections_are_torchvision_s():
    model = mask_rcnn().eval()
    theirs = reference(model).eval()
    with torch.no_grad():
        expected = theirs(list(pixels()))
    found = model.detect(pixels(), [(64, 96), (32, 48)])
    for regions, wanted, scale in zip(found, expected, (1.0, 0.5), strict=True):
        assert len(regions.scores) == 8
        assert torch.allclose(regions.scores, wanted["scores"], atol=1e-6)
        assert torch.equal(regions.labels, wanted["labels"] - 1)
        size = (round(64 * scale), round(96 * scale))
        canvas = paste_masks_in_image(wanted["masks"], wanted["boxes"] * scale, size)[:, 0]
        assert torch.allclose(torch.stack([regions.paste(i) for i in range(8)]), canvas, atol=1e-5)


def test_a_mask_of_lower_resolution_means_the_same():
    """Pseudo-labels come at a quarter of the input's resolution."""
    model = mask_rcnn().train()
    whole = [rectangles((0, 4, 32, 8, 40), (2, 20, 60, 48, 88)), rectangles((1, 8, 40, 32, 72))]
    quarter = [Target(item.labels, item.masks[:, ::4, ::4]) for item in whole]
    losses = []
    for targets in (whole, quarter):
        torch.manual_seed(3)
        losses.append(model.losses(pixels(), targets))
    for name in ("objectness", "rpn_box", "class", "box"):
        assert torch.allclose(losses[0][name], losses[1][name], atol=1e-6), name
    assert losses[1]["mask"].item() == pytest.approx(losses[0]["mask"].item(), rel=0.2)


@pytest.mark.parametrize("head", ["standard", "noise_tolerant"])
@pytest.mark.parametrize("targets", [TARGETS, [rectangles(), rectangles()]], ids=["instances", "none"])
def test_losses_are_finite_and_reach_what_they_can(head, targets):
    model = mask_rcnn(mask_head=head).train()
    losses = model.losses(pixels(), targets)
    assert ("coarse_mask" in losses) == (head == "noise_tolerant")
    sum(losses.values()).backward()
    assert all(torch.isfinite(value) for value in losses.values())
    idle = {name for name, value in model.named_parameters() if value.grad is None}
    assert idle == set()


def test_an_instance_without_a_pixel_is_left_out():
    model = mask_rcnn().train()
    empty = torch.zeros(1, SIZE.height, SIZE.width)
    more = [Target(torch.cat([t.labels, torch.tensor([1])]), torch.cat([t.masks, empty])) for t in TARGETS]
    found = []
    for targets in (TARGETS, more):
        torch.manual_seed(3)
        found.append(model.losses(pixels(), targets))
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


@pytest.mark.parametrize("form", ["none", "per_pixel", "scalar"])
def test_the_boundary_map_enters_both_mask_losses(form, monkeypatch):
    """The plain model tells what is compared; the form is applied to it anew, with the weight."""
    asked = []

    def spy(logits, truth, form):
        asked.append((logits.detach().clone(), truth.clone()))
        return boundary_mask_loss(logits, truth, form)

    monkeypatch.setattr("sskd_core.models.mask_rcnn.boundary_mask_loss", spy)
    model = mask_rcnn(mask_head="noise_tolerant", boundary_map=form, mask_loss_weight=3.0).train()
    losses = model.losses(pixels(), TARGETS)
    assert [tuple(logits.shape[1:]) for logits, _ in asked] == [(28, 28), (14, 14)]
    for name, (logits, truth) in zip(("mask", "coarse_mask"), asked, strict=True):
        assert 0.0 < truth.mean() < 1.0
        assert losses[name].item() == pytest.approx(3.0 * boundary_mask_loss(logits, truth, form).item(), rel=1e-6)


@pytest.mark.slow
def test_it_learns_two_rectangles():
    assert_learns(mask_rcnn(mask_head="noise_tolerant", boundary_map="per_pixel"), 0.5)


def save(model: MaskRcnn, folder) -> str:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(model_card(model)))
    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, folder / "model.safetensors")
    return str(folder)


def test_saved_weights_predict_the_same(tmp_path):
    model = mask_rcnn(seed=5).eval()
    config = mask_rcnn_config().model_copy(update={"arch": {}, "weights": save(model, tmp_path / "w")})
    loaded = build_model(config, CLASSES, None, seed=0).eval()
    with torch.no_grad():
        ours, theirs = model(pixels()), loaded(pixels())
    assert torch.equal(ours.class_logits[0], theirs.class_logits[0])
    assert torch.equal(ours.mask_logits[0], theirs.mask_logits[0])


def test_other_classes_restart_the_layers_that_know_classes_and_keep_the_rest(tmp_path):
    location = save(mask_rcnn(["moon", "star"], seed=5), tmp_path / "w")
    config = mask_rcnn_config().model_copy(update={"weights": location})
    saved, fresh = mask_rcnn(["moon", "star"], seed=5).state_dict(), mask_rcnn(seed=0).state_dict()
    found = build_model(config, CLASSES, None, seed=0).state_dict()
    restarted = {
        name for name in found if torch.equal(found[name], fresh[name]) and found[name].shape != saved[name].shape
    }
    layers = {
        "roi_heads.box_predictor.cls_score",
        "roi_heads.box_predictor.bbox_pred",
        "mask_head.predictor.mask_fcn_logits",
    }
    assert {name.rsplit(".", 1)[0] for name in restarted} == layers
    assert all(torch.equal(found[name], saved[name]) for name in found.keys() - restarted)


def test_a_description_of_other_classes_is_refused(tmp_path):
    location = save(mask_rcnn(["moon"]), tmp_path / "w")
    path = tmp_path / "w" / "config.json"
    path.write_text(path.read_text().replace('["moon"]', '["moon", "sun"]'))
    config = mask_rcnn_config().model_copy(update={"weights": location})
    with pytest.raises(IntegrityError, match="one of the two files is another model's") as caught:
        build_model(config, CLASSES, None, seed=0)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("batch_norm", ["frozen", "batch"])
def test_a_torchvision_resnet_becomes_the_encoder(batch_norm, tmp_path):
    torch.manual_seed(1)
    published = resnet.resnet18()
    save_file(published.state_dict(), tmp_path / "model.safetensors")
    config = mask_rcnn_config(batch_norm=batch_norm).model_copy(update={"encoder_weights": str(tmp_path)})
    encoder = build_model(config, CLASSES, None, seed=0).encoder_module().state_dict()
    assert torch.equal(encoder["layer4.1.conv2.weight"], published.layer4[1].conv2.weight)
    assert torch.equal(encoder["layer2.0.bn1.running_mean"], published.layer2[0].bn1.running_mean)
    assert len(encoder) == len([n for n in published.state_dict() if batch_norm == "batch" or "tracked" not in n]) - 2


def test_the_real_size_is_torchvision_s():
    """44.4 M parameters with 91 rows, of which the mask head's row for the background is missing here."""
    from torchvision.models.detection import maskrcnn_resnet50_fpn

    with torch.device("meta"):
        ours = construct(mask_rcnn_config().model_copy(update={"arch": {"batch_norm": "batch"}}), ["x"] * 90, 0)
        theirs = maskrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=91)
    count = sum(parameter.numel() for parameter in theirs.parameters()) - 257
    assert sum(parameter.numel() for parameter in ours.parameters()) == count


@pytest.mark.parametrize("family", ["mask_rcnn", "detectron2"])
def test_a_term_over_features_is_refused(family):
    model = mask_rcnn_config().model_copy(update={"family": family, "arch": {}})
    train = TrainConfig(strategy="supervised", unlabeled_batch=0, lambda_pxl=0.1)
    with pytest.raises(ValueError, match=r"shows no feature levels; set train\.lambda_pxl: 0"):
        TrainStageConfig(role="student", model=model, train=train)


def test_an_unknown_key_is_refused():
    with pytest.raises(ConfigError, match=r"family mask_rcnn: unknown key 'mask_heads'; did you mean 'mask_head'\?"):
        mask_rcnn(mask_heads="standard")


def test_a_step_of_distillation_weighs_its_own_terms():
    """Both halves of the batch reach the network's own losses, each with its own targets."""
    config = train_config(unlabeled_batch=2, strategy="semi_supervised")
    model = mask_rcnn().train()

    def loader(stream: str) -> BatchLoader:
        return BatchLoader(Rectangles(), 2, SIZE, config.augment, seed=0, stream=stream)

    strategy = SemiSupervised(loader("a"), loader("b"), criterion_of(model, config.criterion), 0.5)
    torch.manual_seed(4)
    terms = strategy.step(model, 3)
    assert terms.losses.keys() == {f"{half}_{name}" for half in ("sup", "semi") for name in NAMES}
    torch.manual_seed(4)
    first, second = loader("a").batch(3), loader("b").batch(3)
    expected = model.losses(first.pixels, targets_of(first, first.pixels.device))
    assert torch.equal(terms.losses["sup_mask"], expected["mask"])
    expected = model.losses(second.pixels, targets_of(second, second.pixels.device))
    assert torch.equal(terms.losses["semi_mask"], 0.5 * expected["mask"])
