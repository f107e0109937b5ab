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
from torch.nn.utils.rnn import pad_sequence

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
        matches = self._match(logits.detach(), [masks.detach() for masks in output.mask_logits], targets)
        labels = torch.cat([target.labels for target in targets])
        mask_loss, dice_loss = self._mask_terms(output.mask_logits, targets, matches)
        return {
            "class": self.config.class_weight * self._class_term(logits, labels, matches),
            "mask": self.config.mask_weight * mask_loss,
            "dice": self.config.dice_weight * dice_loss,
        }

    @torch.no_grad()
    def _match(self, logits: Tensor, masks: list[Tensor], targets: list[Target]) -> _Matches:
        points = torch.rand(1, self.config.num_points, 2, device=logits.device)
        counts = [len(target.labels) for target in targets]
        rows: list[tuple[int, int, np.ndarray, np.ndarray]] = []
        if any(counts):
            # The solver runs on the host: all costs go there at once.
            cost = self._cost(logits, masks, targets, points).cpu().numpy()
            for image, (count, offset) in enumerate(zip(counts, np.cumsum([0, *counts]), strict=False)):
                for depth in range(len(masks) if count else 0):
                    query, instance = linear_sum_assignment(cost[depth, image, :, :count])
                    rows.append((depth, image, query, instance + offset))

        def column(parts: list[np.ndarray]) -> Tensor:
            return torch.from_numpy(np.concatenate(parts) if parts else np.zeros(0, np.int64)).to(logits.device)

        return _Matches(
            depth=column([np.full(len(query), depth) for depth, _, query, _ in rows]),
            image=column([np.full(len(query), image) for _, image, query, _ in rows]),
            query=column([query for _, _, query, _ in rows]),
            instance=column([instance for _, _, _, instance in rows]),
        )

    def _cost(self, logits: Tensor, masks: list[Tensor], targets: list[Target], points: Tensor) -> Tensor:
        """Return the matching cost, [L, B, Q, N] for the N instances of the image that has most; others are padded."""
        images, queries = logits.shape[1:3]
        labels = pad_sequence([target.labels for target in targets], batch_first=True)
        truth = sample_at(torch.cat([target.masks for target in targets]), points)
        truth = pad_sequence(truth.split([len(target.labels) for target in targets]), batch_first=True)
        inside, area = truth.mT, truth.sum(-1)[:, None]
        class_cost = -logits.softmax(-1).gather(-1, labels[:, None].expand(len(masks), -1, queries, -1))
        costs = []
        for depth, drawn in enumerate(masks):
            sampled = sample_at(drawn.flatten(0, 1).float(), points).view(images, queries, -1)
            # Binary cross entropy of a logit x and a truth t is softplus(x) - x t.
            entropy = functional.softplus(sampled).sum(-1, keepdim=True) - sampled @ inside
            probability = sampled.sigmoid()
            dice = 1.0 - (2.0 * probability @ inside + 1.0) / (probability.sum(-1, keepdim=True) + area + 1.0)
            costs.append(
                self.config.class_weight * class_cost[depth]
                + self.config.mask_weight / points.shape[1] * entropy
                + self.config.dice_weight * dice
            )
        # An exploding network must fail with its loss, not inside the solver.
        return torch.stack(costs).nan_to_num(nan=1e6, posinf=1e6, neginf=-1e6)

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

    def _mask_terms(self, masks: list[Tensor], targets: list[Target], matches: _Matches) -> tuple[Tensor, Tensor]:
        """Point-sampled binary cross entropy and dice, summed over pairs, divided by the instances of the batch."""
        instances = group.share(sum(len(target.labels) for target in targets)).total
        matches = _mask_teachers(matches, targets)
        # Of all processes: the points of their masks are drawn together.
        if group.share(len(matches.instance)).total == 0:
            zero = torch.stack([item.sum() for item in masks]).sum() * 0.0
            return zero, zero
        truth = torch.cat([target.masks for target in targets])

        def read(points: Tensor) -> Tensor:
            # A depth matches an instance once at most, so its points have a place; no mask is read from a copy.
            place = matches.instance * len(masks) + matches.depth
            wanted = points.new_zeros(len(truth) * len(masks), *points.shape[1:])
            wanted[place] = points
            found = sample_at(truth, wanted.view(len(truth), len(masks) * points.shape[1], 2))
            return found.view(wanted.shape[:2])[place]

        entropy, dice = point_mask_losses(_matched_masks(masks, matches), read, self.config)
        return entropy.sum() / instances, dice.sum() / instances


def _matched_masks(masks: list[Tensor], matches: _Matches) -> Tensor:
    """Return the mask logits of the matched queries, [M, h, w]."""
    order = matches.depth.argsort(stable=True)
    rows = (matches.image * masks[0].shape[1] + matches.query)[order]
    sizes = matches.depth.bincount(minlength=len(masks)).tolist()
    parts = [item.flatten(0, 1).index_select(0, row) for item, row in zip(masks, rows.split(sizes), strict=True)]
    return torch.cat(parts).float().index_select(0, order.argsort())


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
