"""Boxes of masks, for objectives that need boxes."""

from __future__ import annotations

import torch
from torch import Tensor

from sskd_core.losses.set_criterion import Target


def boxes_of_masks(masks: Tensor) -> Tensor:
    """Return the tight boxes of masks that are not empty.

    Args:
        masks: [n, H, W], 0 or 1.

    Returns:
        [n, 4], x0 y0 x1 y1 as fractions of the input; a mask of one pixel has a box of one pixel.
    """
    inside = masks > 0.5
    spans = []
    for axis, side in ((1, masks.shape[2]), (2, masks.shape[1])):
        line = inside.any(axis).int()
        first, after = line.argmax(1), side - line.flip(1).argmax(1)
        spans.append((first / side, after / side))
    (x0, x1), (y0, y1) = spans
    return torch.stack([x0, y0, x1, y1], 1)


def without_empty(target: Target) -> Target:
    """Return the instances of an image that have a pixel, and so a box."""
    kept = (target.masks > 0.5).flatten(1).any(1)
    return Target(target.labels[kept], target.masks[kept])
