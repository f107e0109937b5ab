"""From a teacher's queries to pseudo-instances inside a training step, on the device, without leaving the crop.

Guided Distillation's rule (Berrada et al. 2024, section 3.2): the most likely class is an object, its probability is
above a threshold, and the mask has some area, measured softly. The other rules are off by default: least hard area,
mask score, suppression of doubles. What a rule rejects is counted under its name; the first rule that fails counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sskd_core.config.teaching import OnlineLabelConfig
from sskd_core.labels.filter import thresholds_by_class
from sskd_core.losses.set_criterion import Target
from sskd_core.models.protocol import QueryOutput

_KEY = "teaching.filter.class_thresholds"


@dataclass
class OnlineLabels:
    """The pseudo-instances of a batch.

    Attributes:
        targets: one an image; masks at the resolution of the mask logits.
        rejected: reason (`config.teaching.REASONS`) -> queries of the batch that it rejected.
        empty_masks: kept instances whose mask has no cell above 0.5; the soft area lets them pass.
        best_scores: [B] highest probability of any class on each image.
    """

    targets: list[Target]
    rejected: dict[str, Tensor]
    empty_masks: Tensor
    best_scores: Tensor

    @property
    def instances(self) -> int:
        """Number of pseudo-instances."""
        return sum(len(item.labels) for item in self.targets)


class OnlineFilter:
    """The rules of one configuration.

    Args:
        config: the rules.
        classes: of the data set.

    Raises:
        ConfigError: `class_thresholds` names a class that the data set does not have.
    """

    def __init__(self, config: OnlineLabelConfig, classes: Sequence[str]) -> None:
        self._config = config
        self._thresholds = thresholds_by_class(config.class_threshold, config.class_thresholds, classes, _KEY)

    @torch.no_grad()
    def __call__(self, output: QueryOutput) -> OnlineLabels:
        """Choose among a teacher's queries.

        Args:
            output: its predictions; those of the last depth are used.
        """
        classes, logits = output.class_logits[-1].float(), output.mask_logits[-1].float()
        probability = classes.softmax(-1)
        score, label = probability.max(-1)
        soft = logits.sigmoid()
        hard = soft > 0.5
        area = hard.flatten(2).sum(-1)
        mask_score = (soft * hard).flatten(2).sum(-1) / area.clamp_min(1)
        passed = self._rules(score, label, soft.flatten(2).sum(-1), area, mask_score)
        kept, rejected = torch.ones_like(label, dtype=torch.bool), {}
        for reason, allowed in passed.items():
            rejected[reason] = (kept & ~allowed).sum()
            kept &= allowed
        limit = self._config.nms_iou
        if limit is not None:
            before = kept.sum()
            kinds = torch.zeros_like(label) if self._config.nms_across_classes else label
            images = zip(kept, score, kinds, hard, strict=True)
            kept = torch.stack([_without_doubles(*image, limit) for image in images])
            rejected["overlap"] = before - kept.sum()
        return OnlineLabels(
            targets=[
                self._target(image_kept, *rest) for image_kept, *rest in zip(kept, label, hard, mask_score, strict=True)
            ],
            rejected=rejected,
            empty_masks=(kept & (area == 0)).sum(),
            best_scores=probability[..., :-1].amax((1, 2)),
        )

    def _rules(
        self, score: Tensor, label: Tensor, soft_area: Tensor, area: Tensor, mask_score: Tensor
    ) -> dict[str, Tensor]:
        """Return, by reason, which queries pass; all [B, Q]."""
        config, classes = self._config, len(self._thresholds)
        thresholds = score.new_tensor([*self._thresholds, torch.inf])
        rules = {
            "no_object": label != classes,
            "score": score > thresholds[label],
            "soft_area": soft_area > config.soft_area,
        }
        if config.hard_area is not None:
            rules["area"] = area > config.hard_area
        if config.mask_score is not None:
            rules["mask_score"] = mask_score > config.mask_score
        return rules

    def _target(self, kept: Tensor, label: Tensor, hard: Tensor, mask_score: Tensor) -> Target:
        least = self._config.mask_loss_score
        teaches = None if least is None else mask_score[kept] > least
        return Target(label[kept], hard[kept].float(), teaches)


def _without_doubles(kept: Tensor, score: Tensor, kind: Tensor, hard: Tensor, limit: float) -> Tensor:
    """Drop, best score first, what overlaps a kept instance of its kind by more than `limit`; one image."""
    queries = kept.nonzero()[:, 0]
    queries = queries[score[queries].argsort(descending=True, stable=True)]
    masks = hard[queries].flatten(1).float()
    shared = masks @ masks.T
    area = masks.sum(1)
    union = (area[:, None] + area[None] - shared).clamp_min(1.0)
    same = kind[queries][:, None] == kind[queries][None]
    doubles = (same & (shared / union > limit)).tolist()
    chosen: list[int] = []
    for place in range(len(queries)):
        if not any(doubles[place][earlier] for earlier in chosen):
            chosen.append(place)
    result = torch.zeros_like(kept)
    result[queries[chosen]] = True
    return result
