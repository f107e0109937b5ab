"""Mask2Former's set loss: match queries to instances, then score classes and masks at every decoder depth.

Cheng et al. 2022 (arXiv 2112.01527), section 3.2. All depths are matched and scored in a few batched operations; the
values are those of the reference formulation. Shape letters: L depths, B images, Q queries, C classes, n instances of
an image, M matched pairs over all depths and images, P points.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn import functional

from sskd_core.config.train import SetCriterionConfig
from sskd_core.distributed import group
from sskd_core.losses.points import point_mask_losses, sample_at
from sskd_core.models.protocol import QueryOutput


@dataclass
class Target:
    """The instances of one image.

    Attributes:
        labels: [n] class indices, int64.
        masks: [n, H, W], float 0 or 1, covering the network input.
        teaches_mask: [n] bool, which instances enter the mask terms; the others are matched and teach their class
            alone. None for all.
    """

    labels: Tensor
    masks: Tensor
    teaches_mask: Tensor | None = None


@dataclass
class _Matches:
    """Matched pairs of all depths: parallel index vectors of length M."""

    depth: Tensor
    image: Tensor
    query: Tensor
    instance: Tensor  # into the concatenated instances of the batch


class SetCriterion:
    """The set loss.

    Args:
        config: weights and point counts; the same weights enter the matching cost.
    """

    def __init__(self, config: SetCriterionConfig) -> None:
        self.config = config

    def __call__(self, output: QueryOutput, targets: list[Target]) -> dict[str, Tensor]:
        """Score a batch.

        Args:
            output: predictions at all depths.
            targets: one an image, in batch order.

        Returns:
            Weighted scalars `class`, `mask`, `dice`, each summed over depths. Without an instance in the batch that
            teaches its mask the mask terms are exact zeros that still carry a gradient path. In one of several
            processes they are its share: the batch is that of all processes, and their sum is the loss.
        """
        logits = torch.stack(output.class_logits).float()
        masks = torch.stack(output.mask_logits).float()
        matches = self._match(logits.detach(), masks.detach(), targets)
        labels = torch.cat([target.labels for target in targets])
        mask_loss, dice_loss = self._mask_terms(masks, targets, matches)
        return {
            "class": self.config.class_weight * self._class_term(logits, labels, matches),
            "mask": self.config.mask_weight * mask_loss,
            "dice": self.config.dice_weight * dice_loss,
        }

    @torch.no_grad()
    def _match(self, logits: Tensor, masks: Tensor, targets: list[Target]) -> _Matches:
        depths = logits.shape[0]
        points = torch.rand(1, self.config.num_points, 2, device=masks.device)
        rows: list[tuple[int, int, np.ndarray, np.ndarray]] = []
        offset = 0
        for image, target in enumerate(targets):
            count = len(target.labels)
            if count:
                cost = self._cost(logits[:, image], masks[:, image], target, points).cpu().numpy()
                for depth in range(depths):
                    query, instance = linear_sum_assignment(cost[depth])
                    rows.append((depth, image, query, instance + offset))
            offset += count
        device = masks.device

        def column(parts: list[np.ndarray]) -> Tensor:
            return torch.from_numpy(np.concatenate(parts) if parts else np.zeros(0, np.int64)).to(device)

        return _Matches(
            depth=column([np.full(len(query), depth) for depth, _, query, _ in rows]),
            image=column([np.full(len(query), image) for _, image, query, _ in rows]),
            query=column([query for _, _, query, _ in rows]),
            instance=column([instance for _, _, _, instance in rows]),
        )

    def _cost(self, logits: Tensor, masks: Tensor, target: Target, points: Tensor) -> Tensor:
        """Return the matching cost of one image at all depths, [L, Q, n]."""
        depths, queries = logits.shape[:2]
        sampled = sample_at(masks.flatten(0, 1), points).view(depths, queries, -1)
        truth = sample_at(target.masks, points)
        class_cost = -logits.softmax(-1)[..., target.labels]
        positive = functional.binary_cross_entropy_with_logits(sampled, torch.ones_like(sampled), reduction="none")
        negative = functional.binary_cross_entropy_with_logits(sampled, torch.zeros_like(sampled), reduction="none")
        mask_cost = (positive @ truth.T + negative @ (1.0 - truth).T) / truth.shape[1]
        probability = sampled.sigmoid()
        overlap = 2.0 * probability @ truth.T
        dice_cost = 1.0 - (overlap + 1.0) / (probability.sum(-1, keepdim=True) + truth.sum(-1) + 1.0)
        total: Tensor = (
            self.config.class_weight * class_cost
            + self.config.mask_weight * mask_cost
            + self.config.dice_weight * dice_cost
        )
        # An exploding network must fail with its loss, not inside the solver.
        return total.nan_to_num(nan=1e6, posinf=1e6, neginf=-1e6)

    def _class_term(self, logits: Tensor, labels: Tensor, matches: _Matches) -> Tensor:
        """Cross entropy over all queries, unmatched ones to "no object" at reduced weight, summed over depths."""
        no_object = logits.shape[-1] - 1
        wanted = torch.full(logits.shape[:3], no_object, dtype=torch.int64, device=logits.device)
        wanted[matches.depth, matches.image, matches.query] = labels[matches.instance]
        weights = torch.ones(no_object + 1, device=logits.device)
        weights[no_object] = self.config.no_object_weight
        losses = functional.cross_entropy(logits.flatten(0, 2), wanted.flatten(), weights, reduction="none")
        # With "no object" at weight 0, a batch without an instance has no weight at all and a loss of 0.
        scale = group.total(weights[wanted].flatten(1).sum(1)).clamp_min(torch.finfo(weights.dtype).tiny)
        return (losses.view(logits.shape[0], -1).sum(1) / scale).sum()

    def _mask_terms(self, masks: Tensor, targets: list[Target], matches: _Matches) -> tuple[Tensor, Tensor]:
        """Point-sampled binary cross entropy and dice, summed over pairs, divided by the instances of the batch."""
        instances = group.share(sum(len(target.labels) for target in targets)).total
        matches = _mask_teachers(matches, targets)
        # Of all processes: the points of their masks are drawn together.
        if group.share(len(matches.instance)).total == 0:
            zero = masks.sum() * 0.0
            return zero, zero
        predicted = masks[matches.depth, matches.image, matches.query]
        truth = torch.cat([target.masks for target in targets])
        entropy, dice = point_mask_losses(predicted, truth[matches.instance], self.config)
        return entropy.sum() / instances, dice.sum() / instances


def _mask_teachers(matches: _Matches, targets: list[Target]) -> _Matches:
    """Return the pairs whose instance teaches its mask."""
    if all(target.teaches_mask is None for target in targets):
        return matches
    teaches = torch.cat(
        [
            torch.ones_like(target.labels, dtype=torch.bool) if target.teaches_mask is None else target.teaches_mask
            for target in targets
        ]
    )
    chosen = teaches[matches.instance]
    return _Matches(matches.depth[chosen], matches.image[chosen], matches.query[chosen], matches.instance[chosen])
