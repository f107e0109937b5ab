"""The dense objective: maps of instances, and how predictions of them are scored."""

from __future__ import annotations

import math

import pytest
import torch

from sskd_core.losses.dense import dense_loss, dense_targets

CLASSES = 3


def two_rectangles() -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    masks = torch.zeros(2, 32, 64)
    masks[0, 0:16, 0:16] = 1.0
    masks[1, 0:16, 16:48] = 1.0
    return [torch.tensor([2, 0])], [masks]


def test_cells_carry_class_offset_and_border_of_their_centre():
    category, offset, border = dense_targets(*two_rectangles(), CLASSES, stride=4)
    assert category.shape == (1, 8, 16)
    assert offset.shape == (1, 2, 8, 16)
    assert border.shape == (1, 1, 8, 16)
    assert (category[0, :4, :4] == 2).all()
    assert (category[0, :4, 4:12] == 0).all()
    assert (category[0, 4:] == CLASSES).all()
    # The cell at (1, 2) looks at pixel (6, 10); the centre of its instance is (7.5, 7.5).
    assert offset[0, :, 1, 2].tolist() == pytest.approx([1.5 / 16, -2.5 / 16])
    assert offset[0, :, 5, 0].isnan().all()
    # Pixel column 14 sees the step at 16 from two pixels away; 10 and 18 do not.
    assert border[0, 0, 1, 2:6].tolist() == [0.0, 1.0, 0.0, 0.0]


def test_an_image_without_instances_is_background():
    category, offset, border = dense_targets([torch.zeros(0, dtype=torch.int64)], [torch.zeros(0, 32, 64)], CLASSES, 4)
    assert (category == CLASSES).all()
    assert offset.isnan().all()
    assert border.sum() == 0


def maps_for(category: torch.Tensor, offset: torch.Tensor, border: torch.Tensor) -> torch.Tensor:
    """Return the predictions that are exactly right."""
    logits = 40.0 * torch.nn.functional.one_hot(category, CLASSES + 1).permute(0, 3, 1, 2)
    return torch.cat([logits, offset.nan_to_num(), 40.0 * border - 20.0], dim=1)


def test_right_maps_cost_nothing():
    targets = dense_targets(*two_rectangles(), CLASSES, 4)
    assert all(float(value) < 1e-6 for value in dense_loss(maps_for(*targets), *targets).values())


def test_each_term_is_a_mean_in_closed_form():
    targets = dense_targets(*two_rectangles(), CLASSES, 4)
    zeros = torch.zeros(1, CLASSES + 4, 8, 16)
    terms = dense_loss(zeros, *targets)
    assert float(terms["class"]) == pytest.approx(math.log(CLASSES + 1))
    assert float(terms["border"]) == pytest.approx(math.log(2))
    known = targets[1][~targets[1].isnan()]
    assert float(terms["offset"]) == pytest.approx(float(known.abs().mean()))


def test_without_instances_the_loss_is_finite_and_has_a_gradient():
    targets = dense_targets([torch.zeros(0, dtype=torch.int64)], [torch.zeros(0, 32, 64)], CLASSES, 4)
    maps = torch.randn(1, CLASSES + 4, 8, 16, generator=torch.Generator().manual_seed(0)).requires_grad_()
    terms = dense_loss(maps, *targets)
    sum(terms.values()).backward()
    assert float(terms["offset"].detach()) == 0.0
    assert torch.isfinite(maps.grad).all()
