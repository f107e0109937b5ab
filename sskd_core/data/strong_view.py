"""The strong view: colour and blur on top of a weak view, pixel for pixel aligned with it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as colour

from sskd_core.config.contrast import StrongViewConfig
from sskd_core.config.model import InputConfig
from sskd_core.data.sampling import generator


def strong_views(
    pixels: Tensor,
    content: list[tuple[int, int]],
    size: InputConfig,
    config: StrongViewConfig,
    seed: int,
    step: int,
    places: Sequence[int],
) -> Tensor:
    """Make the strong views of a batch.

    Args:
        pixels: weak views, [B, 3, H, W], normalised.
        content: per image, the (height, width) that is image; padding stays as it is.
        size: how `pixels` was normalised.
        config: ranges.
        seed: the run's seed.
        step: number of the step; the draws are a pure function of seed, step and place.
        places: of the images in the batch of all processes.

    Returns:
        [B, 3, H, W], normalised, on the device of `pixels`.
    """
    mean = torch.tensor(size.mean, device=pixels.device).view(3, 1, 1)
    std = torch.tensor(size.std, device=pixels.device).view(3, 1, 1)
    views = pixels.clone()
    for row, (place, (rows, columns)) in enumerate(zip(places, content, strict=True)):
        image = (pixels[row, :, :rows, :columns] * std + mean).clamp(0, 1)
        image = _recolour(image, config, generator(seed, "strong", step, place))
        views[row, :, :rows, :columns] = (image - mean) / std
    return views


def _recolour(image: Tensor, config: StrongViewConfig, rng: np.random.Generator) -> Tensor:
    """Jitter in random order, then grey, then blur."""
    ranges = (config.brightness, config.contrast, config.saturation)
    factors = [rng.uniform(1 - width, 1 + width) for width in ranges]
    turn = rng.uniform(-config.hue, config.hue)
    for change in rng.permutation(4):
        match int(change):
            case 0:
                image = colour.adjust_brightness(image, factors[0])
            case 1:
                image = colour.adjust_contrast(image, factors[1])
            case 2:
                image = colour.adjust_saturation(image, factors[2])
            case _:
                image = colour.adjust_hue(image, turn)
    if rng.random() < config.grayscale:
        image = colour.rgb_to_grayscale(image, num_output_channels=3)
    sigma = float(rng.uniform(*config.blur_sigma))
    # The blur mirrors the border, which a sliver narrower than half the kernel does not have.
    if config.blur_kernel > 1 and min(image.shape[1:]) > config.blur_kernel // 2:
        image = colour.gaussian_blur(image, [config.blur_kernel, config.blur_kernel], [sigma, sigma])
    return image
