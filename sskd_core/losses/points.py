"""Point sampling: masks are compared at points and not at every pixel (PointRend, Kirillov et al. 2020).

Coordinates are (x, y) in [0, 1] over the whole input, so logits and targets may have different resolutions.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from sskd_core.config.train import SetCriterionConfig
from sskd_core.distributed import group

_BLOCK = 256
"""Masks whose random points are drawn together, so that a process need not hold those of all others."""


def sample_at(maps: Tensor, points: Tensor) -> Tensor:
    """Read maps bilinearly at points.

    Args:
        maps: [N, h, w], float.
        points: [N, P, 2], or [1, P, 2] for points shared by all maps.

    Returns:
        [N, P]; outside the map is 0.
    """
    grid = (2.0 * points).sub_(1.0).expand(maps.shape[0], -1, -1).unsqueeze(2)
    return functional.grid_sample(maps.unsqueeze(1), grid, mode="bilinear", align_corners=False)[:, 0, :, 0]


def uncertain_points(logits: Tensor, count: int, oversample_ratio: float, importance_ratio: float) -> Tensor:
    """Draw points where a mask is undecided, and some anywhere.

    Args:
        logits: [N, h, w] mask logits.
        count: points a mask.
        oversample_ratio: candidates drawn per point wanted.
        importance_ratio: share of the points taken from the most uncertain candidates (logit nearest 0).

    Returns:
        [N, count, 2].
    """
    own = group.share(logits.shape[0])
    candidates = _random_points(own, int(count * oversample_ratio), logits.device)
    chosen = int(importance_ratio * count)
    best = sample_at(logits, candidates).abs_().topk(chosen, dim=1, largest=False, sorted=False).indices
    picked = candidates.gather(1, best.unsqueeze(-1).expand(-1, -1, 2))
    return torch.cat([picked, _random_points(own, count - chosen, logits.device)], dim=1)


def _random_points(own: group.Share, count: int, device: torch.device) -> Tensor:
    """Draw points for the masks of all processes and return those of the own ones, [own.count, count, 2].

    So a mask gets the same points whichever process it is in, and the generators stay in step.
    """
    if own.count == own.total:
        return torch.rand(own.total, count, 2, device=device)
    kept = []
    for start in range(0, own.total, _BLOCK):
        block = torch.rand(min(_BLOCK, own.total - start), count, 2, device=device)
        kept.append(block[max(0, own.first - start) : max(0, own.first + own.count - start)])
    return torch.cat(kept) if kept else torch.zeros(0, count, 2, device=device)


def point_mask_losses(
    predicted: Tensor, truth: Callable[[Tensor], Tensor], config: SetCriterionConfig
) -> tuple[Tensor, Tensor]:
    """Compare masks at points.

    Args:
        predicted: [M, h, w] mask logits.
        truth: reads what is wanted of each mask, 0 to 1, at its points [M, P, 2]; returns [M, P].
        config: how many points, and how they are drawn.

    Returns:
        The mean binary cross entropy and the dice loss of each mask, [M] and [M].
    """
    with torch.no_grad():
        points = uncertain_points(predicted, config.num_points, config.oversample_ratio, config.importance_ratio)
        wanted = truth(points)
    found = sample_at(predicted, points)
    entropy = functional.binary_cross_entropy_with_logits(found, wanted, reduction="none").mean(1)
    probability = found.sigmoid()
    overlap = 2.0 * (probability * wanted).sum(1)
    dice = 1.0 - (overlap + 1.0) / (probability.sum(1) + wanted.sum(1) + 1.0)
    return entropy, dice
