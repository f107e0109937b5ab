"""Image to input and logits to masks, against PyTorch's own resizing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from sskd_core.data.preprocess import fit_size, instances_from_logits, letterbox, to_pixels

SIDES = st.integers(1, 5000)


@given(SIDES, SIDES, st.integers(32, 1024), st.integers(32, 1024))
def test_the_fitted_size_is_the_largest_of_the_aspect_ratio(height, width, to_height, to_width):
    rows, columns = fit_size(height, width, to_height, to_width)
    assert 1 <= rows <= to_height
    assert 1 <= columns <= to_width
    assert rows == to_height or columns == to_width
    scale = min(to_height / height, to_width / width)
    assert abs(rows - max(1, height * scale)) <= 0.5 + 1e-6
    assert abs(columns - max(1, width * scale)) <= 0.5 + 1e-6


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3)).astype(np.uint8)


@pytest.mark.parametrize("size", [(40, 80), (80, 40), (1, 1), (1, 3000), (3000, 1), (64, 128), (63, 129)], ids=str)
def test_the_image_is_top_left_and_the_rest_is_black(size):
    canvas, (rows, columns) = letterbox(np.full((*size, 3), 200, np.uint8), 64, 128)
    assert canvas.shape == (64, 128, 3)
    assert (rows, columns) == fit_size(*size, 64, 128)
    assert (canvas[:rows, :columns] == 200).all()
    assert canvas[rows:].sum() + canvas[:, columns:].sum() == 0


def test_an_image_that_fits_exactly_is_untouched():
    image = noise(64, 128)
    canvas, size = letterbox(image, 64, 128)
    assert size == (64, 128)
    assert np.array_equal(canvas, image)


@pytest.mark.parametrize("size", [(20, 40), (200, 400), (33, 128)], ids=str)
def test_resizing_is_that_of_torch(size):
    image = noise(*size)
    canvas, resized = letterbox(image, 64, 128)
    planes = torch.from_numpy(image).permute(2, 0, 1)[None].float()
    expected = functional.interpolate(planes, resized, mode="bilinear", align_corners=False, antialias=True)[0]
    difference = canvas[: resized[0], : resized[1]] - expected.permute(1, 2, 0).numpy()
    assert np.abs(difference).max() <= 1.0  # Pillow rounds between its two passes


def test_pixels_are_normalised_channel_by_channel():
    image = np.zeros((2, 3, 3), np.uint8)
    image[0, 1] = (255, 51, 0)
    pixels = to_pixels(image, mean=(0.5, 0.1, 0.2), std=(0.5, 0.2, 0.1))
    assert pixels.shape == (3, 2, 3)
    assert pixels.dtype == np.float32
    assert pixels.flags.c_contiguous
    assert pixels[:, 0, 1] == pytest.approx([1.0, 0.5, -2.0], abs=1e-6)


def full_size(logits: np.ndarray, input_size: tuple[int, int], resized: tuple[int, int], original: tuple[int, int]):
    """Enlarge logits to the network input, cut the padding off, enlarge to the image, all in PyTorch."""
    planes = torch.from_numpy(logits)[None, None]
    whole = functional.interpolate(planes, input_size, mode="bilinear", align_corners=False)
    part = whole[..., : resized[0], : resized[1]]
    return functional.interpolate(part, original, mode="bilinear", align_corners=False)[0, 0].numpy()


@pytest.mark.parametrize(
    ("resized", "original"), [((32, 64), (64, 128)), ((32, 40), (64, 80)), ((20, 64), (40, 128)), ((32, 64), (32, 64))]
)
def test_masks_are_those_of_torch(resized, original):
    rng = np.random.default_rng(3)
    coarse = functional.interpolate(
        torch.from_numpy(rng.normal(size=(1, 1, 3, 5)).astype(np.float32)), (8, 16), mode="bilinear"
    )[0, 0].numpy()
    (found,) = instances_from_logits(np.array([[9.0, 0.0]], np.float32), coarse[None], (32, 64), resized, original)
    expected = full_size(coarse, (32, 64), resized, original)
    assert found.mask.shape == original
    sure = np.abs(expected) > 0.05  # one enlargement and two in a row differ a little
    assert np.array_equal(found.mask[sure], expected[sure] > 0)
    assert found.mask_score == pytest.approx((1 / (1 + np.exp(-expected)))[expected > 0].mean(), abs=0.01)


def single_plane(value: float, shape: tuple[int, int] = (8, 16)) -> np.ndarray:
    return np.full((1, *shape), value, np.float32)


def test_the_score_is_class_score_times_mean_mask_score():
    classes = np.array([[2.0, 1.0, 0.0]], np.float32)
    masks = single_plane(-5.0)
    masks[0, :, :8] = 1.0
    found = instances_from_logits(classes, masks, (8, 16), (8, 16), (8, 16))
    softmax = np.exp([2.0, 1.0, 0.0]) / np.exp([2.0, 1.0, 0.0]).sum()
    inside = 1 / (1 + np.exp(-1.0))
    assert [item.category for item in found] == [0, 1]
    for item in found:
        assert item.class_score == pytest.approx(softmax[item.category], rel=1e-6)
        assert item.mask_score == pytest.approx(inside, rel=1e-6)
        assert item.score == pytest.approx(item.class_score * item.mask_score, rel=1e-6)
        assert item.mask.sum() == 64


def test_no_object_is_no_instance_and_empty_masks_are_dropped():
    classes = np.array([[0.0, 9.0], [3.0, 0.0]], np.float32)
    masks = np.concatenate([single_plane(4.0), single_plane(-4.0)])
    (found,) = instances_from_logits(classes, masks, (8, 16), (8, 16), (8, 16))
    assert found.class_score < 0.01
    assert instances_from_logits(classes[1:], masks[1:], (8, 16), (8, 16), (8, 16)) == []


def test_a_mask_in_the_padding_alone_is_dropped():
    masks = single_plane(-5.0)
    masks[0, :, 8:] = 5.0
    assert instances_from_logits(np.array([[9.0, 0.0]], np.float32), masks, (8, 16), (8, 7), (8, 7)) == []


def test_the_best_pairs_are_kept_best_score_first():
    classes = np.array([[2.0, 1.9, 0.0], [3.0, 0.0, 0.0]], np.float32)
    masks = np.concatenate([single_plane(8.0), single_plane(0.1)])
    found = instances_from_logits(classes, masks, (8, 16), (8, 16), (8, 16), max_instances=3)
    assert [(item.category, round(item.mask_score, 2)) for item in found] == [(0, 1.0), (0, 0.52), (1, 1.0)]
    assert [item.score for item in found] == sorted((item.score for item in found), reverse=True)


def test_thresholds_of_score_and_mask():
    classes, masks = np.array([[1.0, 0.0]], np.float32), single_plane(1.0)
    arguments = (classes, masks, (8, 16), (8, 16), (8, 16))
    (found,) = instances_from_logits(*arguments)
    assert instances_from_logits(*arguments, score_threshold=found.score - 1e-6) != []
    assert instances_from_logits(*arguments, score_threshold=found.score + 1e-6) == []
    assert instances_from_logits(*arguments, mask_threshold=found.mask_score - 1e-3) != []
    assert instances_from_logits(*arguments, mask_threshold=found.mask_score + 1e-3) == []


@pytest.mark.parametrize("original", [(1, 1), (1, 2000), (2000, 1)], ids=str)
def test_extreme_images_get_their_masks_back(original):
    _, resized = letterbox(np.zeros((*original, 3), np.uint8), 32, 64)
    (found,) = instances_from_logits(np.array([[9.0, 0.0]], np.float32), single_plane(5.0), (32, 64), resized, original)
    assert found.mask.shape == original
    assert found.mask.all()


def test_huge_logits_overflow_nowhere():
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        (found,) = instances_from_logits(
            np.array([[500.0, -500.0]], np.float32), single_plane(80.0), (8, 16), (8, 16), (8, 16)
        )
    assert found.score == pytest.approx(1.0)
