"""A dense objective for encoder pre-training: what is here, where is its centre, is this a border."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

_OFFSET_UNIT = 16.0
_BORDER = 5


def dense_targets(
    labels: list[Tensor], masks: list[Tensor], classes: int, stride: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Turn instances into maps.

    Args:
        labels: per image, [n].
        masks: per image, [n, H, W], disjoint.
        classes: C; cells without an instance get index C.
        stride: pixels between cells.

    Returns:
        Class index [B, h, w]; offset (down, right) to the centroid of the visible part, in units of 16 pixels, NaN
        without an instance [B, 2, h, w]; border 0 or 1 [B, 1, h, w], for cells with two owners within two pixels.
    """
    maps = [_image_targets(*pair, classes) for pair in zip(labels, masks, strict=True)]
    owner = torch.stack([item[2] for item in maps]).unsqueeze(1)
    highest = functional.max_pool2d(owner, _BORDER, 1, _BORDER // 2)
    lowest = -functional.max_pool2d(-owner, _BORDER, 1, _BORDER // 2)
    cells = (slice(stride // 2, None, stride), slice(stride // 2, None, stride))
    return (
        torch.stack([item[0] for item in maps])[(slice(None), *cells)],
        torch.stack([item[1] for item in maps])[(slice(None), slice(None), *cells)],
        (highest != lowest).float()[(slice(None), slice(None), *cells)],
    )


def _image_targets(labels: Tensor, masks: Tensor, classes: int) -> tuple[Tensor, Tensor, Tensor]:
    height, width = masks.shape[-2:]
    category = torch.full((height, width), classes, dtype=torch.int64)
    offset = torch.full((2, height, width), float("nan"))
    owner = torch.zeros(height, width)
    place = torch.stack(torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")).float()
    for number, (label, mask) in enumerate(zip(labels, masks > 0, strict=True)):
        inside = place[:, mask]
        category[mask] = label
        offset[:, mask] = (inside.mean(1, keepdim=True) - inside) / _OFFSET_UNIT
        owner[mask] = number + 1.0
    return category, offset, owner


def dense_loss(maps: Tensor, category: Tensor, offset: Tensor, border: Tensor) -> dict[str, Tensor]:
    """Score dense predictions.

    Args:
        maps: [B, C+1+2+1, h, w] as `DenseEncoder` returns them.
        category: as `dense_targets` returns it, likewise the others.
        offset: cells without an instance do not count.
        border: 0 or 1.

    Returns:
        `class` (cross entropy), `offset` (L1 over cells with an instance), `border` (binary cross entropy).
    """
    logits, where, edge = maps[:, :-3], maps[:, -3:-1], maps[:, -1:]
    known = ~offset.isnan()
    distance = (where - offset.nan_to_num()).abs() * known
    return {
        "class": functional.cross_entropy(logits, category),
        "offset": distance.sum() / known.sum().clamp(min=1),
        "border": functional.binary_cross_entropy_with_logits(edge, border),
    }
