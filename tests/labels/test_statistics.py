"""Statistics of label shards against a brute-force count, one by one and summed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sskd_core.data.records import Instance, LabeledImage, Rle
from sskd_core.labels.statistics import SCORE_BINS, LabelStatistics, count_labels, sum_statistics

CLASSES = ["disc", "box", "star"]
MASK = Rle(size=[1, 1], counts="01")
rejections = st.dictionaries(st.sampled_from(["score", "area"]), st.integers(0, 9))
labels = st.lists(
    st.lists(st.tuples(st.integers(0, 2), st.floats(0, 1)), max_size=5).map(
        lambda found: [Instance(category, MASK, score) for category, score in found]
    ),
    max_size=8,
)


def images(found):
    return [LabeledImage(str(number), 1, 1, instances) for number, instances in enumerate(found)]


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(labels, rejections, st.floats(0, 1)), min_size=1, max_size=4))
def test_the_sum_over_shards_equals_a_count_over_all_labels(shards):
    total = sum_statistics(count_labels(images(found), CLASSES, rejected, best) for found, rejected, best in shards)
    everything = [instances for found, _, _ in shards for instances in found]
    flat = [item for instances in everything for item in instances]
    assert total.images == len(everything)
    assert total.empty_images == sum(not instances for instances in everything)
    assert total.empty_rate == (total.empty_images / total.images if everything else 0)
    assert total.instances == len(flat)
    assert total.class_histogram == {
        name: sum(item.category == index for item in flat) for index, name in enumerate(CLASSES)
    }
    assert sum(total.score_histogram) == len(flat)
    for reason in ("score", "area"):
        assert total.rejected.get(reason, 0) == sum(rejected.get(reason, 0) for _, rejected, _ in shards)
    assert total.best_score == max(best for _, _, best in shards)
    for quantile, value in total.score_quantiles.items():
        exact = np.quantile([item.score for item in flat], float(quantile), method="inverted_cdf")
        assert value == pytest.approx(exact, abs=0.5 / SCORE_BINS + 1e-6)
    assert bool(total.score_quantiles) == bool(flat)


def test_statistics_survive_json():
    statistics = count_labels(images([[Instance(1, MASK, 0.7)], []]), CLASSES, {"area": 2}, 0.7)
    assert LabelStatistics.model_validate_json(statistics.model_dump_json()) == statistics


def test_the_sum_of_nothing_is_zero():
    total = sum_statistics([])
    assert (total.images, total.instances, total.score_quantiles) == (0, 0, {})
