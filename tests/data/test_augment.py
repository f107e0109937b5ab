"""The weak view: masks move with the pixels, padding looks as in inference, and one generator decides everything."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sskd_core.config.model import InputConfig
from sskd_core.config.train import AugmentConfig
from sskd_core.data.augment import weak_view

PLAIN = InputConfig(height=64, width=96, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
STILL = {"scale": (1.0, 1.0), "horizontal_flip": 0.0, "brightness": 0, "contrast": 0, "saturation": 0, "hue": 0}


def scene(height: int = 60, width: int = 90) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a grey image with a red rectangle, and its mask."""
    image = torch.full((3, height, width), 60, dtype=torch.uint8)
    masks = torch.zeros((1, height, width), dtype=torch.bool)
    masks[0, 10:40, 15:60] = True
    image[:, masks[0]] = torch.tensor([[250], [10], [10]], dtype=torch.uint8)
    return image, masks


def view(config: dict, seed: int = 0, size: InputConfig = PLAIN, example=None):
    image, masks = example or scene()
    return weak_view(image, masks, size, AugmentConfig(**config), np.random.default_rng(seed))[:2]


@pytest.mark.parametrize("seed", range(12))
def test_the_mask_is_where_the_colour_is(seed):
    image, masks = view({**STILL, "scale": (0.4, 2.5), "horizontal_flip": 0.5}, seed)
    assert image.shape == (3, 64, 96)
    assert masks.shape == (1, 64, 96)
    assert masks.dtype == torch.bool
    red = image[0] - image[1] > 0.46
    both, either = (red & masks[0]).sum(), (red | masks[0]).sum()
    # A pixel along the outline may fall on either side.
    assert either - both <= 2 * (64 + 96)
    assert both >= 0.85 * either


def test_without_augmentation_the_view_is_the_inference_input():
    image, masks = view(STILL, example=scene(64, 80))
    original, truth = scene(64, 80)
    assert torch.equal(image[:, :, :80], original.float() / 255)
    assert torch.equal(masks[:, :, :80], truth)
    assert image[:, :, 80:].abs().sum() == 0
    assert not masks[:, :, 80:].any()


def test_a_training_crop_is_cut_from_the_image_at_the_size_of_the_input():
    image, masks = view({**STILL, "crop": (32, 40)}, example=scene(64, 96))
    assert image.shape == (3, 32, 40)
    assert masks.shape == (1, 32, 40)
    whole, whole_mask = view(STILL, example=scene(64, 96))
    places = [
        (top, left)
        for top in range(33)
        for left in range(57)
        if torch.equal(whole[:, top : top + 32, left : left + 40], image)
        and torch.equal(whole_mask[:, top : top + 32, left : left + 40], masks)
    ]
    assert places  # the same pixels: a crop is no resize


def test_padding_is_at_the_bottom_and_right_and_black_before_normalisation():
    size = InputConfig(height=64, width=96)
    image, _ = view({**STILL, "scale": (0.5, 0.5)}, size=size)
    black = -torch.tensor(size.mean) / torch.tensor(size.std)
    assert torch.allclose(image[:, 32:], black.view(3, 1, 1).expand_as(image[:, 32:]))
    assert torch.allclose(image[:, :, 48:], black.view(3, 1, 1).expand_as(image[:, :, 48:]))
    assert (image[:, :32, :48] != black.view(3, 1, 1)).all()


def test_a_flip_mirrors_image_and_mask():
    image, masks = view(STILL, example=scene(64, 96))
    mirrored, mirrored_masks = view({**STILL, "horizontal_flip": 1.0}, example=scene(64, 96))
    assert torch.equal(mirrored, image.flip(-1))
    assert torch.equal(mirrored_masks, masks.flip(-1))


def test_large_scales_crop_to_the_input():
    image, _ = view({**STILL, "scale": (2.0, 2.0)})
    assert (image.sum(0) > 0).all()  # no padding
    places = {tuple(view({**STILL, "scale": (2.0, 2.0)}, seed)[1].flatten().nonzero()[0].tolist()) for seed in range(6)}
    assert len(places) > 3  # the window moves


def test_colours_change_and_stay_in_range():
    base, _ = view(STILL)
    for name in ("brightness", "contrast", "saturation", "hue"):
        image, masks = view({**STILL, name: 0.4}, seed=3)
        assert not torch.equal(image, base), name
        assert image.min() >= 0.0
        assert image.max() <= 1.0
        assert torch.equal(masks, view(STILL)[1])


def test_equal_generators_give_equal_views_whatever_the_global_state():
    torch.manual_seed(0)
    first = view({}, seed=4)
    torch.manual_seed(1)
    second, other = view({}, seed=4), view({}, seed=5)
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])
    assert not torch.equal(first[0], other[0])


def test_an_image_without_instances_keeps_an_empty_stack():
    image, _ = scene()
    _, masks = view({"scale": (0.3, 3.0)}, example=(image, torch.zeros((0, 60, 90), dtype=torch.bool)))
    assert masks.shape == (0, 64, 96)


@pytest.mark.parametrize("size", [(1, 1), (1, 700), (700, 1), (3, 5)], ids=str)
def test_extreme_images_give_a_full_input(size):
    example = torch.full((3, *size), 90, dtype=torch.uint8), torch.ones((1, *size), dtype=torch.bool)
    image, masks = view({}, example=example)
    assert image.shape == (3, 64, 96)
    assert torch.isfinite(image).all()
    assert masks.any()
