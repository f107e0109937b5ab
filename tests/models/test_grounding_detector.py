"""The detector: several prompts over one pass of the image backbone, predictions of every depth."""

from __future__ import annotations

import pytest
import torch
from engine_fixtures import CLASSES
from grounding_fixtures import DETECTOR, SIZE, tiny_teacher
from transformers import MMGroundingDinoForObjectDetection

from sskd_core.models.grounding_detector import SWIN_LARGE, build_detector

MANY = [*CLASSES, *"abcdefghij"]


def pixels(batch: int = 2) -> torch.Tensor:
    return torch.randn(batch, 3, SIZE.height, SIZE.width, generator=torch.Generator().manual_seed(0))


def mask(batch: int = 2) -> torch.Tensor:
    inside = torch.ones(batch, SIZE.height, SIZE.width, dtype=torch.int64)
    inside[-1, :, 60:] = 0
    return inside


@torch.no_grad()
def test_each_prompt_is_answered_as_by_a_pass_of_its_own(teacher_parts):
    teacher = tiny_teacher(*teacher_parts, MANY)
    official = MMGroundingDinoForObjectDetection.from_pretrained(teacher_parts[0]).eval()
    answers = teacher.ask(pixels(), mask())
    assert len(answers) == len(teacher.prompts) == 2
    for answer, prompt in zip(answers, teacher.prompts, strict=True):
        ids = torch.tensor([prompt.ids] * 2)
        expected = official(pixel_values=pixels(), pixel_mask=mask(), input_ids=ids)
        assert answer.prompt is prompt
        assert torch.allclose(answer.logits[-1], expected.logits, atol=1e-5)
        assert torch.allclose(answer.boxes[-1], expected.pred_boxes, atol=1e-5)


@torch.no_grad()
def test_every_depth_and_the_proposals_are_there(teacher_parts):
    answer = tiny_teacher(*teacher_parts).ask(pixels(), mask())[0]
    assert answer.logits.shape == (2, 2, 12, 24)
    assert answer.boxes.shape == (2, 2, 12, 4)
    assert answer.proposal_logits.shape == (2, 12, 24)
    assert answer.proposal_boxes.shape == (2, 12, 4)
    assert not torch.allclose(answer.boxes[0], answer.boxes[1])
    assert torch.isfinite(answer.logits[..., :8]).all()
    assert (answer.logits[..., 8:] == -torch.inf).all()


def test_the_proposals_are_the_references_of_the_queries(teacher_parts):
    teacher = tiny_teacher(*teacher_parts)
    ids = torch.tensor([teacher.prompts[0].ids] * 2)
    expected = teacher.detector(pixel_values=pixels(), pixel_mask=mask(), input_ids=ids).init_reference_points
    answer = teacher.ask(pixels(), mask())[0]
    assert torch.allclose(answer.proposal_boxes, expected, atol=1e-6)
    assert answer.proposal_boxes.requires_grad
    assert not expected.requires_grad


def test_nothing_is_remembered_after_the_question(teacher_parts):
    teacher = tiny_teacher(*teacher_parts, MANY)
    with torch.no_grad():
        first = teacher.ask(pixels(), mask())[0].boxes
        other = teacher.ask(pixels() + 1.0, mask())[0].boxes
        again = teacher.ask(pixels(), mask())[0].boxes
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_it_forgets_even_when_a_prompt_fails(teacher_parts):
    teacher = tiny_teacher(*teacher_parts)
    backbone = teacher.detector.model.backbone
    teacher.detector.model.encoder.register_forward_pre_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        teacher.ask(pixels(), mask())
    assert backbone._held is None


def test_deep_supervision_does_not_depend_on_the_configuration():
    assert build_detector(DETECTOR | {"auxiliary_loss": False}).config.auxiliary_loss


def test_the_architecture_that_is_given_is_left_alone():
    before = repr(SWIN_LARGE)
    with torch.device("meta"):
        build_detector({})
    assert repr(SWIN_LARGE) == before
