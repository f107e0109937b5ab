"""The rules from a teacher's instances to pseudo-labels, each on its own and together."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from sskd_core.config.label import PseudoLabelConfig
from sskd_core.data.masks import decode_mask, encode_mask, mask_area, mask_bbox
from sskd_core.data.records import Instance
from sskd_core.errors import ConfigError
from sskd_core.labels.filter import REASONS, LabelFilter

CLASSES = ["disc", "box", "star"]


def instance(score, *, category=0, rows=(0, 10), columns=(0, 10)):
    mask = np.zeros((20, 30), dtype=bool)
    mask[slice(*rows), slice(*columns)] = True
    rle = encode_mask(mask)
    return Instance(category, rle, score, bbox=mask_bbox(rle), area=float(mask_area(rle)))


def run(instances, **config):
    kept, rejected = LabelFilter(PseudoLabelConfig(**config), CLASSES).apply(instances)
    return kept, dict(rejected)


def test_a_score_at_the_threshold_stays_and_one_below_goes():
    kept, rejected = run([instance(0.5), instance(0.499, rows=(10, 20))], score_threshold=0.5)
    assert [item.score for item in kept] == [0.5]
    assert rejected == {"score": 1}


def test_a_score_that_is_not_a_number_is_rejected():
    assert run([instance(float("nan"))]) == ([], {"score": 1})


def test_a_class_threshold_replaces_the_common_one():
    candidates = [instance(0.4, category=0), instance(0.4, category=1, rows=(10, 20))]
    kept, rejected = run(candidates, score_threshold=0.3, class_thresholds={"box": 0.5})
    assert [item.category for item in kept] == [0]
    kept, _ = run(candidates, score_threshold=0.5, class_thresholds={"box": 0.2})
    assert [item.category for item in kept] == [1]
    assert rejected == {"score": 1}


def test_a_threshold_for_an_unknown_class_names_the_classes():
    with pytest.raises(ConfigError, match="no class 'cat'; the classes are: disc, box, star"):
        LabelFilter(PseudoLabelConfig(class_thresholds={"cat": 0.1}), CLASSES)


def test_few_pixels_are_rejected():
    kept, rejected = run([instance(0.9, columns=(0, 1)), instance(0.8, rows=(10, 20))], min_area=11)
    assert [item.score for item in kept] == [0.8]
    assert rejected == {"area": 1}


def test_no_pixels_are_rejected_even_without_a_least_area():
    assert run([instance(0.9, rows=(0, 0))], min_area=0) == ([], {"area": 1})


def test_the_best_score_keeps_the_pixels_whatever_the_order():
    weak, strong = instance(0.6, columns=(5, 15)), instance(0.9)
    for order in ([weak, strong], [strong, weak]):
        kept, rejected = run(order)
        assert [item.score for item in kept] == [0.9, 0.6]
        assert kept[0] is strong
        assert (kept[1].area, kept[1].bbox) == (50.0, (10.0, 0.0, 5.0, 10.0))
        assert decode_mask(kept[1].rle).sum() == 50
        assert rejected == {}


def test_what_overlaps_leave_too_small_is_rejected_and_gives_its_pixels_back():
    strong = instance(0.9, columns=(0, 9))
    hidden = instance(0.8, columns=(0, 10))
    behind = instance(0.7, columns=(9, 20))
    kept, rejected = run([strong, hidden, behind], min_area=16)
    assert [item.score for item in kept] == [0.9, 0.7]
    assert kept[1].area == 110.0
    assert rejected == {"overlap": 1}


def test_what_is_mostly_a_better_instance_is_its_double():
    strong, double = instance(0.9, columns=(0, 10)), instance(0.8, columns=(0, 16))
    behind = instance(0.7, columns=(12, 20), rows=(0, 10))
    kept, rejected = run([strong, double, behind], min_visible=0.5)
    assert [(item.score, item.area) for item in kept] == [(0.9, 100.0), (0.7, 80.0)]
    assert rejected == {"overlap": 1}
    kept, _ = run([strong, double], min_visible=60 / 160)
    assert [item.area for item in kept] == [100.0, 60.0]


def test_overlaps_stay_when_the_rule_is_off():
    candidates = [instance(0.9), instance(0.8)]
    assert run(candidates, remove_overlaps=False) == (candidates, {})


def test_the_best_instances_stay_when_there_are_too_many():
    candidates = [instance(0.5 + n / 100, rows=(2 * n, 2 * n + 2)) for n in range(5)]
    kept, rejected = run(candidates, max_instances=2)
    assert [item.score for item in kept] == [0.54, 0.53]
    assert rejected == {"max_instances": 3}


def test_an_instance_lost_to_overlap_takes_no_place():
    candidates = [instance(0.9), instance(0.8), instance(0.7, rows=(10, 20))]
    kept, _ = run(candidates, max_instances=2)
    assert [item.score for item in kept] == [0.9, 0.7]


def test_the_teacher_is_asked_for_near_misses_of_the_lowest_threshold():
    config = PseudoLabelConfig(score_threshold=0.4, class_thresholds={"box": 0.2, "disc": 0.9})
    assert LabelFilter(config, CLASSES).candidate_score == pytest.approx(0.1)


boxes = st.tuples(st.integers(0, 19), st.integers(1, 12), st.integers(0, 29), st.integers(1, 12))


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.floats(0, 1), st.integers(0, 2), boxes), max_size=8), st.booleans())
def test_every_candidate_is_kept_or_counted_and_labels_obey_the_rules(drawn, remove_overlaps):
    candidates = [
        instance(score, category=category, rows=(y, y + height), columns=(x, x + width))
        for score, category, (y, height, x, width) in drawn
    ]
    kept, rejected = run(candidates, min_area=9, max_instances=3, remove_overlaps=remove_overlaps)
    assert len(kept) + sum(rejected.values()) == len(candidates)
    assert set(rejected) <= set(REASONS)
    assert len(kept) <= 3
    assert [item.score for item in kept] == sorted((item.score for item in kept), reverse=True)
    masks = [decode_mask(item.rle) for item in kept]
    for item, mask in zip(kept, masks, strict=True):
        assert item.score >= 0.3
        assert item.area == mask.sum() >= 9
        assert item.bbox == mask_bbox(item.rle)
    if remove_overlaps and masks:
        assert np.sum(masks, axis=0).max() == 1


def test_a_rule_about_overlaps_needs_that_they_are_resolved():
    with pytest.raises(ValidationError, match="min_visible counts the pixels that overlaps take"):
        PseudoLabelConfig(min_visible=0.5, remove_overlaps=False)
