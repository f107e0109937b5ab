"""Is one model better than another, or was it the luck of the test images? A paired bootstrap over images.

Both models meet the same resampled images (Efron and Tibshirani 1993, chapter 16: resample the units, here images, and
compute the figure anew on each resample). AP is not a mean over images, so each resample ranks all detections again:
an image that was drawn n times counts n times. Matching does not depend on which other images are there, so the kept
matches suffice, and no mask is decoded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sskd_core.errors import DataError
from sskd_core.evaluation.matches import THRESHOLDS, ClassMatches, SplitMatches

_RECALLS = np.linspace(0.0, 1.0, 101)
_MAX_CELLS = 4_000_000
"""Bound of resamples x thresholds x detections held at a time."""

Figures = NDArray[np.float64]


@dataclass(frozen=True)
class PairedGain:
    """Mask AP of a challenger minus that of a champion, in points.

    Attributes:
        challenger: mask AP on the split.
        champion: likewise.
        gain: their difference.
        low: lower end of the percentile interval of the gain.
        high: its upper end.
        confidence: of the two-sided interval.
        resamples: how many were drawn.
        seed: of the draw.
        images: of the split.
        class_gains: class -> difference of its mask AP; classes that occur.
    """

    challenger: float
    champion: float
    gain: float
    low: float
    high: float
    confidence: float
    resamples: int
    seed: int
    images: int
    class_gains: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)


def paired_gain(
    challenger: SplitMatches,
    champion: SplitMatches,
    classes: Sequence[str],
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> PairedGain:
    """Compare two models on one split.

    Args:
        challenger: matches on the split.
        champion: likewise, of the same images with the same annotations.
        classes: class names in index order.
        resamples: number of resamples.
        confidence: of the interval, 0..1.
        seed: of the draw; equal seeds give equal intervals.

    Raises:
        DataError: the two were not measured on the same annotated images.
    """
    _check_same_truth(challenger, champion)
    first, second = MatchTable(challenger, len(classes)), MatchTable(champion, len(classes))
    images = len(challenger)
    whole = np.ones((1, images), dtype=np.int64)
    per_class = (first.class_ap(whole) - second.class_ap(whole))[0]
    generator = np.random.default_rng(seed)
    draws = generator.multinomial(images, np.full(images, 1.0 / images), size=resamples)
    gains = first.mask_ap(draws) - second.mask_ap(draws)
    tail = (1.0 - confidence) / 2
    low, high = np.quantile(gains, [tail, 1.0 - tail])
    challenger_ap, champion_ap = float(first.mask_ap(whole)[0]), float(second.mask_ap(whole)[0])
    return PairedGain(
        challenger=challenger_ap,
        champion=champion_ap,
        gain=challenger_ap - champion_ap,
        low=float(low),
        high=float(high),
        confidence=confidence,
        resamples=resamples,
        seed=seed,
        images=images,
        class_gains={name: float(gain) for name, gain in zip(classes, per_class, strict=True) if np.isfinite(gain)},
    )


class MatchTable:
    """The matches of one model, ranked once, from which AP follows for any number of draws of the images.

    Args:
        matches: of the split.
        classes: their number.
    """

    def __init__(self, matches: SplitMatches, classes: int) -> None:
        self.images = len(matches)
        self._classes = [_ranked(matches, category) for category in range(classes)]

    def mask_ap(self, draws: NDArray[np.int64]) -> Figures:
        """Return the mean over the classes that occur, in points, [draws]; 0 where none does.

        Args:
            draws: how often each image was drawn, [draws, images].
        """
        per_class = self.class_ap(draws)
        present = np.isfinite(per_class)
        total = np.where(present, per_class, 0.0).sum(axis=1)
        return np.asarray(total / np.maximum(present.sum(axis=1), 1))

    def class_ap(self, draws: NDArray[np.int64]) -> Figures:
        """Return the mask AP of each class in points, [draws, classes]; NaN where the draw has no object of it."""
        return np.stack([_class_ap(item, draws) for item in self._classes], axis=1)


@dataclass(frozen=True)
class _Ranked:
    """The detections of one class over all images, best first.

    Attributes:
        image: number of each detection's image, [detections].
        right: whether it found an object, [thresholds, detections].
        wrong: whether it found none and counts, [thresholds, detections].
        truths: objects of each image, [images].
    """

    image: NDArray[np.int64]
    right: NDArray[np.bool_]
    wrong: NDArray[np.bool_]
    truths: NDArray[np.int64]


def _ranked(matches: SplitMatches, category: int) -> _Ranked:
    own = [(number, item) for number, image in enumerate(matches.values()) for item in image if _is(item, category)]
    truths = np.zeros(len(matches), dtype=np.int64)
    for number, item in own:
        truths[number] += item.truths
    image = np.array([number for number, item in own for _ in item.scores], dtype=np.int64)
    scores = np.array([score for _, item in own for score in item.scores], dtype=np.float64)
    matched = np.array([mask for _, item in own for mask in item.matched], dtype=np.int64)
    ignored = np.array([mask for _, item in own for mask in item.ignored], dtype=np.int64)
    # Of equal scores the earlier image comes first, as in the reference.
    order = np.argsort(-scores, kind="stable")
    bits = 1 << np.arange(THRESHOLDS)[:, None]
    is_matched, counts = (matched[order] & bits) > 0, (ignored[order] & bits) == 0
    return _Ranked(image[order], is_matched & counts, ~is_matched & counts, truths)


def _is(item: ClassMatches, category: int) -> bool:
    return item.category == category


def _class_ap(ranked: _Ranked, draws: NDArray[np.int64]) -> Figures:
    truths = draws @ ranked.truths
    found = np.full(len(draws), np.nan)
    occurs = np.flatnonzero(truths)
    detections = ranked.image.size
    step = max(1, _MAX_CELLS // max(1, detections * THRESHOLDS))
    for start in range(0, len(occurs), step):
        rows = occurs[start : start + step]
        found[rows] = _average_precision(ranked, draws[rows], truths[rows]) if detections else 0.0
    return found


def _average_precision(ranked: _Ranked, draws: NDArray[np.int64], truths: NDArray[np.int64]) -> Figures:
    """Return COCO's 101-point interpolated AP in points, mean over the thresholds, [draws]."""
    weights = draws[:, None, ranked.image]
    right = np.cumsum(weights * ranked.right, axis=2)
    wrong = np.cumsum(weights * ranked.wrong, axis=2)
    precision = right / (right + wrong + np.spacing(1))
    precision = np.maximum.accumulate(precision[:, :, ::-1], axis=2)[:, :, ::-1]
    count, thresholds, detections = precision.shape
    # One search for all rows: each row of counts is shifted past the one before it, so that the whole is sorted.
    shift = (np.arange(count * thresholds) * (int(truths.max()) + 2)).reshape(count, thresholds, 1)
    wanted = _objects_for_recall(truths)[:, None, :] + shift
    place = np.searchsorted((right + shift).ravel(), wanted.ravel()).reshape(wanted.shape)
    place -= np.arange(count * thresholds).reshape(count, thresholds, 1) * detections
    padded = np.concatenate([precision, np.zeros((count, thresholds, 1))], axis=2)
    return np.asarray(100.0 * np.take_along_axis(padded, place, axis=2).mean(axis=(1, 2)))


def _objects_for_recall(truths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return how many objects must be found to reach each of the 101 recalls, [draws, 101].

    The smallest k with k / truths >= recall in floating point, as the reference compares.
    """
    total = truths[:, None]
    needed = np.ceil(_RECALLS * total).astype(np.int64)
    needed -= (needed > 0) & ((needed - 1) / total >= _RECALLS)
    needed += needed / total < _RECALLS
    return np.asarray(needed)


def _check_same_truth(first: SplitMatches, second: SplitMatches) -> None:
    if list(first) != list(second):
        raise DataError(f"the models were measured on different images ({len(first)} and {len(second)})")
    for image_id, classes in first.items():
        if _truths(classes) != _truths(second[image_id]):
            raise DataError(f"the models were measured on different annotations of image '{image_id}'")


def _truths(classes: Sequence[ClassMatches]) -> dict[int, int]:
    return {item.category: item.truths for item in classes if item.truths}
