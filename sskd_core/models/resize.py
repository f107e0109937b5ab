"""Inputs whose sides a network cannot divide."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def to_multiple(pixels: Tensor, multiple: int, mode: str = "bilinear") -> Tensor:
    """Resize [B, 3, H, W] so that both sides are the next multiple; one that fits is returned as it is."""
    size = tuple(-(-side // multiple) * multiple for side in pixels.shape[2:])
    return pixels if size == tuple(pixels.shape[2:]) else functional.interpolate(pixels, size, mode=mode)
