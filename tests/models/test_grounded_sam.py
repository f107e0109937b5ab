"""The grounded teacher as the engine sees it: outputs, what learns, sizes, bad input."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from engine_fixtures import CLASSES
from grounding_fixtures import DETECTOR, SEGMENTER, SIZE, grounded_config, tiny_teacher

from sskd_core.config.contrast import PixelContrastConfig
from sskd_core.config.model import InputConfig, ModelConfig
from sskd_core.config.train import OptimizerConfig, SetCriterionConfig
from sskd_core.data.loader import Batch
from sskd_core.errors import ConfigError
from sskd_core.losses.grounding import GroundingCriterion
from sskd_core.losses.set_criterion import Target
from sskd_core.models.build import construct
from sskd_core.models.grounded_sam import GroundedSam, class_distribution
from sskd_core.models.sam_masks import resize_pixels
from sskd_core.strategies.base import StepTerms
from sskd_core.strategies.contrast import ContrastTerm
from sskd_core.training.optimizer import make_optimizer


def pixels(batch: int = 2) -> torch.Tensor:
    return torch.randn(batch, 3, SIZE.height, SIZE.width, generator=torch.Generator().manual_seed(0))


def learners(model: torch.nn.Module) -> set[str]:
    """Return the top modules of the parameters that have a gradient."""
    return {".".join(name.split(".")[:3]) for name, item in model.named_parameters() if item.grad is not None}


def test_the_output_has_what_the_contrastive_term_reads(teacher_parts):
    teacher = tiny_teacher(*teacher_parts)
    output = teacher(pixels())
    (classes,), (masks,) = output.class_logits, output.mask_logits
    assert classes.shape == (2, 12, len(CLASSES) + 1)
    assert masks.shape == (2, 12, 16, 16)
    assert [level.shape for level in output.encoder_levels] == [(2, 32, 4, 4), (2, 64, 2, 2)]
    assert torch.allclose(classes.softmax(-1).sum(-1), torch.ones(2, 12))
    for image, item in enumerate(output.detections):
        assert torch.allclose(1 - classes[image].softmax(-1)[:, -1], item.scores.amax(-1))
        squares = resize_pixels(teacher.segmenter, pixels())
        boxes = item.boxes[None] * 64
        expected = teacher.segmenter(squares[image : image + 1], input_boxes=boxes, multimask_output=False)
        assert torch.allclose(masks[image], expected.pred_masks[0, :, 0], atol=1e-4)


@pytest.mark.parametrize(
    ("encoder", "shapes"),
    [("segmenter", [(2, 32, 4, 4), (2, 64, 2, 2)]), ("detector", [(2, 32, 4, 6), (2, 64, 2, 3)]), (None, [])],
)
def test_the_encoder_alone_gives_the_levels_of_the_output(teacher_parts, encoder, shapes):
    teacher = tiny_teacher(*teacher_parts, contrast_encoder=encoder)
    found, expected = teacher.encode(pixels()), teacher(pixels()).encoder_levels
    assert [level.shape for level in found] == shapes
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


def test_sam_does_not_run_for_the_detectors_loss(teacher_parts):
    teacher = tiny_teacher(*teacher_parts)
    calls: list[str] = []
    teacher.segmenter.vision_encoder.register_forward_hook(lambda *_: calls.append("image"))
    target = Target(torch.tensor([0]), torch.ones(1, SIZE.height, SIZE.width))
    output = teacher(pixels())
    criterion = GroundingCriterion(SetCriterionConfig(num_points=16))
    criterion(output, [target, target])
    assert not calls
    assert output.encoder_levels
    assert output.mask_logits
    assert output.class_logits
    assert calls == ["image"]


def test_halves_of_a_batch_share_one_pass_of_sam(teacher_parts):
    teacher = tiny_teacher(*teacher_parts, train_mask_decoder=True)
    calls: list[int] = []
    teacher.segmenter.vision_encoder.register_forward_hook(lambda _, inputs, output: calls.append(len(inputs[0])))
    output = teacher(pixels())
    target = Target(torch.tensor([0]), torch.ones(1, SIZE.height, SIZE.width))
    criterion = GroundingCriterion(SetCriterionConfig(num_points=16))
    for half in (slice(None, 1), slice(1, None)):
        part = output.rows(half)
        assert part.answers[0].logits.shape[1] == 1
        criterion(part, [target])
    assert len(output.mask_logits[0]) == 2
    assert calls == [2]


def test_rows_are_the_predictions_for_those_images(teacher_parts):
    output = tiny_teacher(*teacher_parts)(pixels())
    part = output.rows(slice(1, None))
    assert torch.allclose(part.mask_logits[0], output.mask_logits[0][1:], atol=1e-4)
    assert torch.equal(part.class_logits[0], output.class_logits[0][1:])
    assert torch.equal(part.encoder_levels[1], output.rows(slice(1, None)).encoder_levels[1])


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"contrast_encoder": None}, set()),
        ({"contrast_encoder": "segmenter"}, {"segmenter.vision_encoder.backbone", "segmenter.vision_encoder.neck"}),
        ({"contrast_encoder": None, "train_mask_decoder": True}, {"segmenter.mask_decoder"}),
    ],
    ids=["detector", "encoder", "decoder"],
)
def test_what_is_frozen(teacher_parts, settings, expected):
    teacher = tiny_teacher(*teacher_parts, **settings)
    free = [name for name, item in teacher.named_parameters() if item.requires_grad]
    assert not any("text_backbone" in name for name in free)
    of_sam = [name for name in free if name.startswith("segmenter.")]
    assert all(any(name.startswith(part) for part in expected) for name in of_sam)
    assert bool(of_sam) == bool(expected)
    of_detector = {f"detector.{name}" for name, _ in teacher.detector.named_parameters()}
    assert all("text_backbone" in name for name in of_detector.difference(free))


def test_every_free_parameter_of_the_detector_learns(teacher_parts):
    teacher = tiny_teacher(*teacher_parts, contrast_encoder=None).train()
    target = Target(torch.tensor([0]), torch.ones(1, SIZE.height, SIZE.width))
    losses = GroundingCriterion(SetCriterionConfig())(teacher(pixels()), [target, target])
    sum(losses.values()).backward()
    idle = {name for name, item in teacher.detector.named_parameters() if item.requires_grad and item.grad is None}
    # The Swin backbone norms each stage by itself and has its classifier's norm left over.
    assert {name for name in idle if "swin.layernorm" not in name} == set()


@pytest.mark.parametrize("encoder", ["segmenter", "detector"])
def test_the_contrastive_term_trains_the_encoder_and_nothing_else(teacher_parts, encoder):
    teacher = tiny_teacher(*teacher_parts, contrast_encoder=encoder, train_mask_decoder=True).train()
    masks = torch.zeros(1, SIZE.height, SIZE.width)
    masks[0, 10:40, 20:60] = 1.0
    batch = Batch(pixels(), [torch.tensor([1])] * 2, [masks] * 2, [(SIZE.height, SIZE.width), (40, 96)])
    term = ContrastTerm(teacher, PixelContrastConfig(num_negatives=4, feature_level=-2), 0.1, 10, seed=0)
    terms = StepTerms({})
    torch.manual_seed(0)
    term.add_to(terms, teacher, teacher(batch.pixels), batch.pixels, batch, None, step=0)
    terms.losses["pxl"].backward()
    wanted = {
        "segmenter": {"segmenter.vision_encoder.backbone", "segmenter.vision_encoder.neck"},
        "detector": {"detector.model.backbone"},
    }
    assert learners(teacher) == wanted[encoder]
    assert all(parameter.grad is not None for parameter in term.projector.parameters())


def test_a_run_with_the_contrastive_term_needs_an_encoder_for_it(teacher_parts):
    with pytest.raises(ConfigError, match=r"contrast\.feature_level is -1, but the encoder has 0 levels"):
        ContrastTerm(tiny_teacher(*teacher_parts, contrast_encoder=None), PixelContrastConfig(), 0.1, 10, seed=0)


def test_what_is_frozen_stays_in_inference_mode(teacher_parts):
    teacher = tiny_teacher(*teacher_parts, train_mask_decoder=True, contrast_encoder=None).train()
    modes = {
        "detector": teacher.detector.model.decoder.training,
        "text": teacher.detector.model.text_backbone.training,
        "prompts": teacher.segmenter.prompt_encoder.training,
        "encoder": teacher.segmenter.vision_encoder.backbone.training,
        "decoder": teacher.segmenter.mask_decoder.training,
    }
    assert modes == {"detector": True, "text": False, "prompts": False, "encoder": False, "decoder": True}
    assert not any(module.training for module in teacher.eval().modules())


def test_image_encoders_train_at_their_own_rate(teacher_parts):
    teacher = tiny_teacher(*teacher_parts)
    encoders = {id(parameter) for parameter in teacher.encoder_module().parameters()}
    optimizer = make_optimizer(teacher, OptimizerConfig(backbone_lr_multiplier=0.1))
    slow = {id(item) for group in optimizer.param_groups if group["scale"] == 0.1 for item in group["params"]}
    assert slow == encoders
    names = {name for name, item in teacher.named_parameters() if id(item) in encoders}
    assert {".".join(name.split(".")[:3]) for name in names} == {
        "detector.model.backbone",
        "segmenter.vision_encoder.backbone",
        "segmenter.vision_encoder.neck",
    }


def test_a_copy_predicts_the_same(teacher_parts):
    """As the moving average of a run is one."""
    teacher = tiny_teacher(*teacher_parts)
    twin = copy.deepcopy(teacher)
    assert torch.equal(twin(pixels()).mask_logits[0], teacher(pixels()).mask_logits[0])
    heads = twin.detector.bbox_embed[0], twin.detector.model.decoder.bbox_embed[0]
    assert heads[0].layers[0].weight is heads[1].layers[0].weight


def test_a_distribution_keeps_the_best_score_and_the_shares():
    scores = torch.tensor([[0.6, 0.3, 0.0], [0.0, 0.0, 0.0], [1.0, 1.0, 0.0]])
    found = class_distribution(scores)
    assert torch.allclose(found, torch.tensor([[0.4, 0.2, 0.0, 0.4], [0, 0, 0, 1], [0.5, 0.5, 0, 0]]), atol=1e-6)
    assert torch.isfinite(found.log()).all()


def test_the_real_size_is_that_of_the_paper():
    config = ModelConfig(family="grounded_sam", grounding={}, input=InputConfig(height=800, width=1333))
    with torch.device("meta"):
        model = construct(config, ["thing"] * 8, seed=0)
    assert model.segmenter.prompt_encoder.input_image_size == 1024
    counts = {name: sum(item.numel() for item in part.parameters()) for name, part in model.named_children()}
    assert sum(counts.values()) == pytest.approx(568e6, rel=0.05)
    assert counts["segmenter"] == pytest.approx(224.4e6, rel=0.05)
    assert counts["detector"] == pytest.approx(344e6, rel=0.05)


def test_without_a_tokenizer_it_cannot_be_asked():
    model = construct(grounded_config(), CLASSES, seed=0)
    with pytest.raises(ConfigError, match=r"has no tokenizer\.json.*set grounding\.detector"):
        model(pixels())


@pytest.mark.parametrize(
    ("arch", "message"),
    [
        ({"detectors": {}}, "unknown key 'detectors'; did you mean 'detector'"),
        ({"detector": {"backbone_config": {"model_type": "no-such-net"}}}, "detector: the architecture is not valid"),
        ({"detector": DETECTOR | {"encoder_layers": "two"}}, "detector: the architecture is not valid"),
        ({"detector": DETECTOR | {"two_stage": False}}, "detector: .*two_stage"),
        ({"segmenter": {"vision_config": {"model_type": "sam2_vision_model", "fpn_hidden_size": "x"}}}, "segmenter: "),
        (
            {"detector": DETECTOR | {"num_queries": 900}},
            "input 64 x 96 gives the detector 128 cells for its 900 queries",
        ),
    ],
    ids=["key", "backbone", "type", "one stage", "segmenter", "queries"],
)
def test_an_impossible_architecture_is_refused(arch, message):
    config = grounded_config().model_copy(update={"arch": {"detector": DETECTOR, "segmenter": SEGMENTER} | arch})
    with pytest.raises(ConfigError, match=f"family grounded_sam.*{message}") as caught:
        GroundedSam(config, CLASSES)
    assert "\n" not in str(caught.value)


def test_a_threshold_for_an_unknown_class_is_refused():
    with pytest.raises(ConfigError, match=r"grounding\.class_thresholds: no class 'disk'; the classes are: disc, box"):
        GroundedSam(grounded_config(class_thresholds={"disk": 0.2}), CLASSES)


def test_prediction_keeps_no_graph(teacher_parts):
    output = tiny_teacher(*teacher_parts)(pixels())
    assert not output.mask_logits[0].requires_grad
    assert not output.class_logits[0].requires_grad
    assert np.isfinite(output.mask_logits[0].numpy()).all()
