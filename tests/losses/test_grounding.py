"""The objective of the grounded teacher, against the loss that `transformers` computes by itself."""

from __future__ import annotations

import copy

import pytest
import torch
from engine_fixtures import CLASSES
from grounding_fixtures import SIZE, tiny_teacher

from sskd_core.config.train import SetCriterionConfig
from sskd_core.losses.boxes import boxes_of_masks
from sskd_core.losses.grounding import GroundingCriterion, mask_iou
from sskd_core.losses.set_criterion import Target
from sskd_core.models.grounded_sam import GroundedSam
from sskd_core.models.sam_masks import decode_boxes, encode_image

CRITERION = GroundingCriterion(SetCriterionConfig(num_points=64))
MANY = [*CLASSES, *"abcdefghij"]


def target(*rectangles: tuple[int, int, int, int, int]) -> Target:
    """Return instances: class, y0, y1, x0, x1 in pixels."""
    masks = torch.zeros(len(rectangles), SIZE.height, SIZE.width)
    for mask, (_, y0, y1, x0, x1) in zip(masks, rectangles, strict=True):
        mask[y0:y1, x0:x1] = 1.0
    return Target(torch.tensor([item[0] for item in rectangles], dtype=torch.int64), masks)


TARGETS = [
    target((0, 4, 30, 8, 40), (2, 20, 60, 50, 90)),
    target((1, 0, 64, 0, 96), (2, 5, 9, 70, 71), (2, 1, 2, 3, 4)),
]


def pixels(batch: int = 2) -> torch.Tensor:
    return torch.randn(batch, 3, SIZE.height, SIZE.width, generator=torch.Generator().manual_seed(0))


def official_loss(teacher: GroundedSam, targets: list[Target]):
    """Run the detector as `transformers` documents training, boxes written out by hand."""
    labels = []
    for item in targets:
        boxes = []
        for mask in item.masks:
            y, x = mask.nonzero().unbind(1)
            y0, y1, x0, x1 = y.min() / 64, (y.max() + 1) / 64, x.min() / 96, (x.max() + 1) / 96
            boxes.append(torch.stack([(x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0]))
        labels.append({"class_labels": item.labels, "boxes": torch.stack(boxes)})
    ids = torch.tensor([teacher.prompts[0].ids] * len(targets))
    return teacher.detector(pixel_values=pixels(len(targets)), input_ids=ids, labels=labels)


def test_the_terms_are_those_of_transformers(teacher_parts):
    teacher = tiny_teacher(*teacher_parts)
    found = CRITERION(teacher(pixels()), TARGETS)
    figures = official_loss(teacher, TARGETS).loss_dict
    depths = ["", "_0"]
    assert found["class"].item() == pytest.approx(sum(2.0 * figures[f"loss_ce{depth}"].item() for depth in depths))
    assert found["box"].item() == pytest.approx(sum(5.0 * figures[f"loss_bbox{depth}"].item() for depth in depths))
    assert found["giou"].item() == pytest.approx(sum(2.0 * figures[f"loss_giou{depth}"].item() for depth in depths))
    assert found["proposal"] > 0


def test_together_they_are_its_loss_but_for_the_proposals(teacher_parts):
    teacher = tiny_teacher(*teacher_parts)
    found = CRITERION(teacher(pixels()), TARGETS)
    official = official_loss(teacher, TARGETS)
    weights = {"loss_ce_enc": 2.0, "loss_bbox_enc": 5.0, "loss_giou_enc": 2.0}
    proposals = sum(weight * official.loss_dict[name].item() for name, weight in weights.items())
    ours = sum(value.item() for name, value in found.items() if name != "proposal")
    assert ours == pytest.approx(official.loss.item() - proposals)


def test_the_proposals_learn(teacher_parts):
    """`transformers` cuts them off from its own loss."""
    teacher = tiny_teacher(*teacher_parts)
    CRITERION(teacher(pixels()), TARGETS)["proposal"].backward()
    heads = (teacher.detector.model.encoder_output_bbox_embed, teacher.detector.model.enc_output)
    assert all(parameter.grad.abs().sum() > 0 for head in heads for parameter in head.parameters())


def test_every_phrase_of_a_class_is_wanted(teacher_parts):
    """Raising the score of a synonym lowers the loss of its class."""
    teacher = tiny_teacher(*teacher_parts, phrases={"disc": ["round thing", "disc"]})
    output = teacher(pixels(1))
    logits = output.answers[0].logits.detach().requires_grad_()
    output.answers[0].logits = logits
    CRITERION(output, TARGETS[:1])["class"].backward()
    pull = logits.grad[-1, 0]
    spans = [span for span in output.answers[0].prompt.spans if span.category == 0]
    asked = [token for span in spans for token in range(span.start, span.stop)]
    rows = (pull[:, asked] < 0).all(1)
    assert len(asked) == 3
    assert rows.sum() == 1  # the matched query is pulled up at all three tokens, the others down
    assert (pull[~rows][:, asked] >= 0).all()


def test_prompts_are_added_and_divided_by_all_instances(teacher_parts):
    teacher = tiny_teacher(*teacher_parts, MANY)
    assert len(teacher.prompts) == 2
    mixed = [target((0, 4, 30, 8, 40), (12, 20, 60, 50, 90)), target((1, 0, 64, 0, 96))]
    output = teacher(pixels())
    found = CRITERION(output, mixed)
    expected = 0.0
    for answer in output.answers:
        alone = copy.copy(output)
        alone.answers = [answer]
        own = [
            Target(item.labels[keep], item.masks[keep])
            for item in mixed
            for keep in [torch.tensor([label in answer.prompt.categories for label in item.labels.tolist()])]
        ]
        expected += max(1, sum(len(item.labels) for item in own)) * CRITERION(alone, own)["box"].item()
    assert found["box"].item() == pytest.approx(expected / 3)


def test_a_batch_without_an_instance_teaches_silence(teacher_parts):
    teacher = tiny_teacher(*teacher_parts)
    losses = CRITERION(teacher(pixels()), [target(), target()])
    logits = teacher(pixels()).answers[0].logits[..., :8].sigmoid()
    focal = -0.75 * logits.square() * (1 - logits).log()
    assert losses["class"].item() == pytest.approx(2.0 * focal.sum().item(), rel=1e-4)
    assert losses["box"].item() == losses["giou"].item() == 0.0
    sum(losses.values()).backward()
    assert teacher.detector.class_embed[0].bias.grad > 0  # gradient descent lowers it


def test_an_empty_mask_is_no_instance(teacher_parts):
    teacher = tiny_teacher(*teacher_parts)
    found = CRITERION(teacher(pixels(1)), [target((0, 4, 30, 8, 40), (1, 5, 5, 5, 5))])
    expected = CRITERION(teacher(pixels(1)), [target((0, 4, 30, 8, 40))])
    assert {name: value.item() for name, value in found.items()} == pytest.approx(
        {name: value.item() for name, value in expected.items()}
    )


def test_boxes_that_are_no_numbers_make_a_loss_that_is_none(teacher_parts):
    output = tiny_teacher(*teacher_parts)(pixels())
    output.answers[0].boxes = output.answers[0].boxes * torch.nan
    assert torch.isnan(CRITERION(output, TARGETS)["class"])


def test_the_mask_decoder_learns_on_annotated_boxes(teacher_parts):
    teacher = tiny_teacher(*teacher_parts, train_mask_decoder=True).train()
    torch.manual_seed(0)
    losses = CRITERION(teacher(pixels()), TARGETS)
    assert {"mask", "dice", "iou"} <= losses.keys()
    (losses["mask"] + losses["dice"] + losses["iou"]).backward()
    learnt = {name for name, parameter in teacher.segmenter.named_parameters() if parameter.grad is not None}
    assert learnt
    assert all(name.startswith("mask_decoder.") for name in learnt)
    assert all(parameter.grad is None for parameter in teacher.detector.parameters())


def test_the_decoder_terms_are_those_of_full_masks(teacher_parts):
    """With the masks themselves at hand, cross entropy, dice and IoU at every cell instead of at points."""
    teacher = tiny_teacher(*teacher_parts, train_mask_decoder=True)
    torch.manual_seed(0)
    many = GroundingCriterion(SetCriterionConfig(num_points=20_000, importance_ratio=0.0, oversample_ratio=1.0))
    losses = many(teacher(pixels(1)), TARGETS[:1])
    wanted = TARGETS[0].masks
    with torch.no_grad():
        squares = torch.nn.functional.interpolate(pixels(1), (64, 64), mode="bilinear", antialias=True)
        corners = torch.tensor([[8 / 96, 4 / 64, 40 / 96, 30 / 64], [50 / 96, 20 / 64, 90 / 96, 60 / 64]])
        features = encode_image(teacher.segmenter, squares).pyramid
        logits, quality = decode_boxes(teacher.segmenter, features, corners)
        full = torch.nn.functional.interpolate(logits[None], (64, 96), mode="bilinear")[0].double()
        entropy = torch.nn.functional.binary_cross_entropy_with_logits(full, wanted.double())
        probability = full.sigmoid().flatten(1)
        dice = 1 - 2 * (probability * wanted.flatten(1)).sum(1) / (probability.sum(1) + wanted.flatten(1).sum(1))
        iou = mask_iou(logits, wanted)
    assert losses["mask"].item() == pytest.approx(5 * entropy.item(), rel=0.03)
    assert losses["dice"].item() == pytest.approx(5 * dice.mean().item(), rel=0.03)
    assert losses["iou"].item() == pytest.approx((quality - iou).abs().mean().item(), abs=1e-5)


def test_no_more_instances_than_allowed_reach_the_decoder(teacher_parts, monkeypatch):
    teacher = tiny_teacher(*teacher_parts, train_mask_decoder=True, decoder_instances=2)
    output = teacher(pixels())
    counts, decode = [], output.decode
    output.decode = lambda image, boxes: counts.append(len(boxes)) or decode(image, boxes)
    CRITERION(output, TARGETS)
    assert counts == [2, 2]


def test_without_an_instance_the_decoder_terms_are_zero(teacher_parts):
    teacher = tiny_teacher(*teacher_parts, train_mask_decoder=True)
    losses = CRITERION(teacher(pixels(1)), [target()])
    assert losses["mask"].item() == losses["dice"].item() == losses["iou"].item() == 0.0
    losses["mask"].backward()


def test_boxes_are_tight():
    found = boxes_of_masks(target((0, 4, 30, 8, 40), (0, 0, 64, 0, 96), (0, 63, 64, 95, 96)).masks)
    scale = torch.tensor([96.0, 64.0, 96.0, 64.0])
    assert (found * scale).tolist() == [[8, 4, 40, 30], [0, 0, 96, 64], [95, 63, 96, 64]]
    assert boxes_of_masks(torch.zeros(0, 8, 8)).shape == (0, 4)


def test_the_iou_is_counted_in_cells():
    truth = torch.zeros(1, 8, 8)
    truth[0, :4] = 1.0
    logits = torch.full((1, 4, 4), -1.0)
    logits[0, :, 0] = 1.0
    assert mask_iou(logits, truth).item() == pytest.approx(2 / 10)
