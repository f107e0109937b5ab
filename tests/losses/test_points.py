"""Reading maps at points, and choosing points where a mask is undecided."""

from __future__ import annotations

import pytest
import torch

from sskd_core.losses.points import sample_at, uncertain_points


def pixel_centres(height: int, width: int) -> torch.Tensor:
    rows = (torch.arange(height) + 0.5) / height
    columns = (torch.arange(width) + 0.5) / width
    return torch.stack(torch.meshgrid(columns, rows, indexing="xy"), dim=-1).reshape(1, -1, 2)


def test_pixel_centres_return_the_pixels():
    maps = torch.arange(2 * 3 * 5, dtype=torch.float32).view(2, 3, 5)
    assert torch.allclose(sample_at(maps, pixel_centres(3, 5)), maps.flatten(1), atol=1e-4)


def test_coordinates_are_x_then_y():
    maps = torch.zeros(1, 2, 4)
    maps[0, 0, 3] = 1.0
    right_top = torch.tensor([[[7 / 8, 1 / 4]]])
    assert sample_at(maps, right_top).item() == pytest.approx(1.0)


def test_between_pixels_is_their_mean_and_outside_is_zero():
    maps = torch.tensor([[[2.0, 4.0]]])
    points = torch.tensor([[[0.5, 0.5], [-1.0, 0.5], [0.5, 3.0]]])
    assert sample_at(maps, points).tolist() == [[3.0, 0.0, 0.0]]


def test_each_map_may_have_its_own_points():
    maps = torch.tensor([[[1.0, 2.0]], [[3.0, 4.0]]])
    points = torch.tensor([[[0.25, 0.5]], [[0.75, 0.5]]])
    assert sample_at(maps, points).flatten().tolist() == [1.0, 4.0]


@pytest.fixture
def half_decided() -> torch.Tensor:
    """Logits that are sure everywhere but in a band of a quarter of the width."""
    logits = torch.full((2, 16, 16), 9.0)
    logits[:, :, 4:8] = 0.0
    return logits


def in_band(points: torch.Tensor) -> torch.Tensor:
    return (points[..., 0] > 3.5 / 16) & (points[..., 0] < 8.5 / 16)


def test_undecided_points_are_preferred(half_decided):
    torch.manual_seed(0)
    points = uncertain_points(half_decided, count=400, oversample_ratio=8.0, importance_ratio=0.75)
    assert points.shape == (2, 400, 2)
    assert in_band(points[:, :300]).all()
    rest = in_band(points[:, 300:]).float().mean()
    assert 0.15 < rest < 0.5  # the remaining quarter falls anywhere


def test_without_importance_points_fall_anywhere(half_decided):
    torch.manual_seed(0)
    points = uncertain_points(half_decided, count=2000, oversample_ratio=1.0, importance_ratio=0.0)
    assert in_band(points).float().mean() == pytest.approx(5 / 16, abs=0.05)
    assert points.min() >= 0.0
    assert points.max() <= 1.0


def test_no_mask_gives_no_points():
    assert uncertain_points(torch.zeros(0, 4, 4), 8, 3.0, 0.75).shape == (0, 8, 2)
