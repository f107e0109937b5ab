"""From a teacher's instances to the pseudo-labels of an image.

The rules run from the best score down: class threshold, least area, number an image, overlaps. What a rule
rejects is counted under the rule's name, so that the statistics say why labels are missing.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from sskd_core.config.label import PseudoLabelConfig
from sskd_core.data.masks import decode_mask, encode_mask, mask_area, mask_bbox
from sskd_core.data.records import Instance
from sskd_core.errors import ConfigError

REASONS = ("score", "area", "overlap", "max_instances")
"""Why an instance is rejected: score under the threshold of its class; fewer pixels than `min_area`; fewer
than that, or than `min_visible` of its own, left after better instances took theirs; `max_instances` better ones."""

_NEAR_MISS = 0.5


def thresholds_by_class(common: float, own: Mapping[str, float], classes: Sequence[str], key: str) -> list[float]:
    """Return the score threshold of each class.

    Args:
        common: of the classes that have none of their own.
        own: by class name.
        classes: of the data set.
        key: where `own` is set, for the message.

    Raises:
        ConfigError: `own` names a class that the data set does not have.
    """
    unknown = sorted(set(own) - set(classes))
    if unknown:
        raise ConfigError(f"{key}: no class '{unknown[0]}'; the classes are: {', '.join(classes)}")
    return [own.get(name, common) for name in classes]


class LabelFilter:
    """The rules of one configuration.

    Attributes:
        candidate_score: least score that is worth asking the teacher for. It lies below every threshold, so
            that the statistics show near misses, and as high as that allows: masks of noise cost time.

    Raises:
        ConfigError: `class_thresholds` names a class that the data set does not have.
    """

    def __init__(self, config: PseudoLabelConfig, classes: Sequence[str]) -> None:
        key = "stages.pseudo_label.class_thresholds"
        self._thresholds = thresholds_by_class(config.score_threshold, config.class_thresholds, classes, key)
        self._config = config
        self.candidate_score = _NEAR_MISS * min(self._thresholds, default=config.score_threshold)

    def apply(self, instances: Iterable[Instance]) -> tuple[list[Instance], Counter[str]]:
        """Filter the instances of one image.

        Args:
            instances: in any order.

        Returns:
            The pseudo-labels, best score first, and how many instances each of `REASONS` rejected.
        """
        rejected: Counter[str] = Counter()
        kept: list[Instance] = []
        taken: NDArray[np.bool_] | None = None
        for item in sorted(instances, key=lambda item: -item.score):
            reason = self._too_weak(item)
            if reason is None and len(kept) == self._config.max_instances:
                reason = "max_instances"
            if reason is None and self._config.remove_overlaps:
                mask = decode_mask(item.rle)
                taken = np.zeros_like(mask) if taken is None else taken
                whole, item = item.area, _without(item, mask, taken)
                if item.area < max(self._least_area, self._config.min_visible * whole):
                    reason = "overlap"
                else:
                    taken |= mask
            if reason is None:
                kept.append(item)
            else:
                rejected[reason] += 1
        return kept, rejected

    @property
    def _least_area(self) -> int:
        return max(1, self._config.min_area)

    def _too_weak(self, item: Instance) -> str | None:
        if not item.score >= self._thresholds[item.category]:  # NaN, too, is no score
            return "score"
        return "area" if item.area < self._least_area else None


def _without(item: Instance, mask: NDArray[np.bool_], taken: NDArray[np.bool_]) -> Instance:
    """Return the instance less the pixels in `taken`; the same object when it loses none."""
    if not (mask & taken).any():
        return item
    rle = encode_mask(mask & ~taken)
    return dataclasses.replace(item, rle=rle, area=float(mask_area(rle)), bbox=mask_bbox(rle))
