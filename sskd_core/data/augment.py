"""The weak view: geometry and light colour, applied to an image and its masks alike.

Large-scale jitter as Mask2Former trains with it: resize by a random factor relative to the network input, crop or pad
to the crop size, flip, jitter the colours.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torchvision.transforms.v2 import functional as colour

from sskd_core.config.model import InputConfig
from sskd_core.config.train import AugmentConfig
from sskd_core.data.preprocess import fit_size


def weak_view(
    image: Tensor, masks: Tensor, size: InputConfig, config: AugmentConfig, rng: np.random.Generator
) -> tuple[Tensor, Tensor, tuple[int, int]]:
    """Make one weak view.

    Args:
        image: RGB, [3, h, w], uint8.
        masks: [n, h, w], bool.
        size: the network input.
        config: ranges.
        rng: the only source of randomness.

    Returns:
        The normalised image [3, H, W] of the crop's size, padding 0 before normalisation; the masks [n, H, W] as bool,
        of which some may have become empty; and the (height, width) that is image and not padding.
    """
    image, masks = _scale(image, masks, size, rng.uniform(*config.scale))
    height, width = config.crop or (size.height, size.width)
    image, masks = _crop(image, masks, (height, width), rng)
    if rng.random() < config.horizontal_flip:
        image, masks = image.flip(-1), masks.flip(-1)
    image = _jitter(image, config, rng)
    # Padding comes last, at the bottom and right, so that it looks as it does in inference.
    content = (image.shape[1], image.shape[2])
    pad = (0, width - content[1], 0, height - content[0])
    image, masks = functional.pad(image, pad), functional.pad(masks, pad)
    mean, std = torch.tensor(size.mean).view(3, 1, 1), torch.tensor(size.std).view(3, 1, 1)
    return (image - mean) / std, masks, content


def _scale(image: Tensor, masks: Tensor, size: InputConfig, factor: float) -> tuple[Tensor, Tensor]:
    fitted = fit_size(image.shape[1], image.shape[2], size.height, size.width)
    rows, columns = (max(1, round(side * factor)) for side in fitted)
    pixels = image.float().div(255.0)
    if (rows, columns) != tuple(image.shape[1:]):
        pixels = functional.interpolate(pixels[None], (rows, columns), mode="bilinear", antialias=True)[0].clamp(0, 1)
        if len(masks):
            masks = functional.interpolate(masks[None].float(), (rows, columns), mode="nearest-exact")[0] > 0.5
        else:
            masks = masks.new_zeros((0, rows, columns))
    return pixels, masks


def _crop(image: Tensor, masks: Tensor, size: tuple[int, int], rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    rows, columns = image.shape[1:]
    top = int(rng.integers(max(0, rows - size[0]) + 1))
    left = int(rng.integers(max(0, columns - size[1]) + 1))
    window = (slice(None), slice(top, top + size[0]), slice(left, left + size[1]))
    return image[window], masks[window]


def _jitter(image: Tensor, config: AugmentConfig, rng: np.random.Generator) -> Tensor:
    """Brightness is added, contrast and saturation are factors, hue is a turn of the colour circle."""
    if config.brightness:
        image = (image + rng.uniform(-config.brightness, config.brightness)).clamp(0, 1)
    if config.contrast:
        image = colour.adjust_contrast(image, rng.uniform(1 - config.contrast, 1 + config.contrast))
    if config.saturation:
        image = colour.adjust_saturation(image, rng.uniform(1 - config.saturation, 1 + config.saturation))
    if config.hue:
        image = colour.adjust_hue(image, rng.uniform(-config.hue, config.hue))
    return image
