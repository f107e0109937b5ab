"""The strong view: colour, blur and erased boxes on top of a weak view, pixel for pixel aligned with it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as colour

from sskd_core.config.contrast import StrongViewConfig
from sskd_core.config.model import InputConfig
from sskd_core.data.sampling import generator

_ERASED = ((0.7, (0.05, 0.2), (0.3, 3.3)), (0.5, (0.02, 0.2), (0.1, 6.0)), (0.3, (0.02, 0.2), (0.05, 8.0)))
"""Unbiased Teacher's three boxes (Liu et al. 2021): probability, share of the image, height over width."""
_ATTEMPTS = 10


def strong_views(
    pixels: Tensor,
    content: list[tuple[int, int]],
    size: InputConfig,
    config: StrongViewConfig,
    seed: int,
    step: int,
    places: Sequence[int],
    erase: bool = False,
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
        erase: put noise into up to three boxes of each image (cutout).

    Returns:
        [B, 3, H, W], normalised, on the device of `pixels`.
    """
    mean = torch.tensor(size.mean, device=pixels.device).view(3, 1, 1)
    std = torch.tensor(size.std, device=pixels.device).view(3, 1, 1)
    views = pixels.clone()
    for row, (place, (rows, columns)) in enumerate(zip(places, content, strict=True)):
        image = (pixels[row, :, :rows, :columns] * std + mean).clamp(0, 1)
        image = _recolour(image, config, generator(seed, "strong", step, place))
        if erase:
            image = _erased(image, generator(seed, "erase", step, place))
        views[row, :, :rows, :columns] = (image - mean) / std
    return views


def _recolour(image: Tensor, config: StrongViewConfig, rng: np.random.Generator) -> Tensor:
    """Jitter in random order, then grey, then blur."""
    ranges = (config.brightness, config.contrast, config.saturation)
    factors = [rng.uniform(1 - width, 1 + width) for width in ranges]
    turn = rng.uniform(-config.hue, config.hue)
    order = rng.permutation(4)
    for change in order if _happens(config.jitter_probability, rng) else ():
        match int(change):
            case 0:
                image = colour.adjust_brightness(image, factors[0])
            case 1:
                image = colour.adjust_contrast(image, factors[1])
            case 2:
                image = colour.adjust_saturation(image, factors[2])
            case _ if config.hue:  # the turn into another colour space and back costs most
                image = colour.adjust_hue(image, turn)
    if rng.random() < config.grayscale:
        image = colour.rgb_to_grayscale(image, num_output_channels=3)
    sigma = float(rng.uniform(*config.blur_sigma))
    # The blur mirrors the border, which a sliver narrower than half the kernel does not have.
    blurred = config.blur_kernel > 1 and _happens(config.blur_probability, rng)
    if blurred and min(image.shape[1:]) > config.blur_kernel // 2:
        image = colour.gaussian_blur(image, [config.blur_kernel, config.blur_kernel], [sigma, sigma])
    return image


def _happens(probability: float, rng: np.random.Generator) -> bool:
    """Draw only where there is a choice, so that what always happens leaves the later draws as they are."""
    return probability == 1.0 or rng.random() < probability


def _erased(image: Tensor, rng: np.random.Generator) -> Tensor:
    """Fill boxes of an image [3, h, w] with standard normal noise, as `torchvision`'s `RandomErasing` does."""
    rows, columns = image.shape[1:]
    image = image.clone()
    for probability, share, ratio in _ERASED:
        if rng.random() >= probability:
            continue
        for _ in range(_ATTEMPTS):
            area = rows * columns * rng.uniform(*share)
            shape = np.exp(rng.uniform(*np.log(ratio)))
            height, width = round(np.sqrt(area * shape)), round(np.sqrt(area / shape))
            if 0 < height < rows and 0 < width < columns:
                top, left = rng.integers(rows - height + 1), rng.integers(columns - width + 1)
                noise = torch.from_numpy(rng.standard_normal((3, height, width), dtype=np.float32))
                image[:, top : top + height, left : left + width] = noise.to(image)
                break
    return image
