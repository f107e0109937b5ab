"""Figures of pseudo-labels: counted when a shard is written, summed without reading a shard.

Gates, the health checks and the report read nothing but these.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import numpy as np
from pydantic import Field

from sskd_core.config.base import StrictModel
from sskd_core.data.records import LabeledImage

SCORE_BINS = 200
"""Bins of the score histogram over 0..1. Histograms add up over shards, quantiles do not."""

_QUANTILES = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)


class LabelStatistics(StrictModel):
    """Figures of the labels of some images: of a shard, or of all."""

    schema_version: Literal[1] = 1
    images: int = Field(ge=0)
    empty_images: int = Field(ge=0, description="images without an instance")
    empty_rate: float = Field(ge=0, le=1)
    instances: int = Field(ge=0)
    class_histogram: dict[str, int] = Field(description="class name -> instances, every class")
    score_histogram: list[int] = Field(min_length=SCORE_BINS, max_length=SCORE_BINS)
    score_quantiles: dict[str, float] = Field(
        description="quantile -> score, exact to half a histogram bin; empty without an instance"
    )
    rejected: dict[str, int] = Field(description="reason -> instances that the filter rejected")
    best_score: float = Field(ge=0, description="highest score of a candidate, kept or rejected; 0 without any")


def count_labels(
    images: Sequence[LabeledImage],
    classes: Sequence[str],
    rejected: Mapping[str, int],
    best_score: float,
) -> LabelStatistics:
    """Count the labels of a shard.

    Args:
        images: with their pseudo-labels.
        classes: class names in index order.
        rejected: reason -> number of rejected instances.
        best_score: highest score among all candidates, 0 without any.
    """
    scores = np.array([item.score for image in images for item in image.instances], dtype=np.float64)
    bins = np.minimum((scores * SCORE_BINS).astype(np.int64), SCORE_BINS - 1)
    histogram = Counter(item.category for image in images for item in image.instances)
    return _statistics(
        images=len(images),
        empty_images=sum(not image.instances for image in images),
        class_histogram={name: histogram[index] for index, name in enumerate(classes)},
        score_histogram=np.bincount(bins, minlength=SCORE_BINS).tolist(),
        rejected=dict(rejected),
        best_score=best_score,
    )


def sum_statistics(parts: Iterable[LabelStatistics]) -> LabelStatistics:
    """Return the figures of all parts together."""
    classes: Counter[str] = Counter()
    rejected: Counter[str] = Counter()
    scores = np.zeros(SCORE_BINS, dtype=np.int64)
    images = empty_images = 0
    best_score = 0.0
    for part in parts:
        images += part.images
        empty_images += part.empty_images
        classes.update(part.class_histogram)
        rejected.update(part.rejected)
        scores += np.array(part.score_histogram)
        best_score = max(best_score, part.best_score)
    return _statistics(images, empty_images, dict(classes), scores.tolist(), dict(rejected), best_score)


def _statistics(
    images: int,
    empty_images: int,
    class_histogram: dict[str, int],
    score_histogram: list[int],
    rejected: dict[str, int],
    best_score: float,
) -> LabelStatistics:
    return LabelStatistics(
        images=images,
        empty_images=empty_images,
        empty_rate=empty_images / images if images else 0.0,
        instances=sum(class_histogram.values()),
        class_histogram=class_histogram,
        score_histogram=score_histogram,
        score_quantiles=_quantiles(score_histogram),
        rejected=rejected,
        best_score=best_score,
    )


def _quantiles(histogram: Sequence[int]) -> dict[str, float]:
    """Return the middle of the bin in which each quantile's instance (nearest rank) falls."""
    cumulated = np.cumsum(histogram)
    total = int(cumulated[-1])
    if not total:
        return {}
    ranks = [max(1, int(np.ceil(quantile * total))) for quantile in _QUANTILES]
    bins = np.searchsorted(cumulated, ranks)
    return {f"{q:g}": round((int(index) + 0.5) / SCORE_BINS, 6) for q, index in zip(_QUANTILES, bins, strict=True)}
