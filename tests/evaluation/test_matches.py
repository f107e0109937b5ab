"""Match records: what is kept of an evaluation, and that it survives the file."""

from __future__ import annotations

import pytest
from random_splits import CLASSES, random_split, rectangle

from sskd_core.data.records import LabeledImage
from sskd_core.errors import IntegrityError
from sskd_core.evaluation.instance_ap import instance_ap, instance_ap_and_matches
from sskd_core.evaluation.matches import ClassMatches, decode_matches, encode_matches


def test_one_hit_one_miss_and_one_beside_the_point():
    truth = {
        "a": LabeledImage("a", 48, 48, [rectangle(0, 0, 0, 10, 10), rectangle(0, 20, 20, 20, 20, is_crowd=True)]),
        "b": LabeledImage("b", 48, 48, []),
    }
    predictions = {
        # The same box as the truth, a box that covers 8 of 10 columns, one inside the crowd region.
        "a": [
            rectangle(0, 0, 0, 10, 10, 0.9),
            rectangle(0, 0, 0, 8, 10, 0.8),
            rectangle(0, 22, 22, 4, 4, 0.7),
        ],
        "b": [rectangle(1, 0, 0, 5, 5, 0.4)],
    }
    _, found = instance_ap_and_matches(truth, predictions, CLASSES)
    everywhere = 0b11_1111_1111
    assert found["a"] == [
        ClassMatches(
            0, truths=1, scores=[0.9, 0.8, 0.7], matched=[everywhere, 0, everywhere], ignored=[0, 0, everywhere]
        )
    ]
    assert found["b"] == [ClassMatches(1, truths=0, scores=[0.4], matched=[0], ignored=[0])]


def test_a_match_holds_up_to_its_iou():
    truth = {"a": LabeledImage("a", 48, 48, [rectangle(2, 0, 0, 10, 10)])}
    _, found = instance_ap_and_matches(truth, {"a": [rectangle(2, 0, 0, 8, 10, 0.8)]}, CLASSES)
    (item,) = found["a"]
    assert item.matched == [0b111_1111], "0.50 to 0.80"


@pytest.mark.parametrize("seed", range(5))
def test_the_figures_are_those_of_the_plain_evaluation(seed: int):
    truth, predictions = random_split(seed)
    figures, matches = instance_ap_and_matches(truth, predictions, CLASSES)
    assert figures == instance_ap(truth, predictions, CLASSES)
    assert list(matches) == list(truth)
    assert decode_matches(encode_matches(matches), "here") == matches
    assert encode_matches(matches) == encode_matches(matches)


def test_without_a_prediction_the_truths_are_counted():
    truth = {
        "a": LabeledImage("a", 48, 48, [rectangle(1, 0, 0, 5, 5), rectangle(1, 9, 9, 5, 5), rectangle(2, 20, 0, 5, 5)]),
        "b": LabeledImage("b", 48, 48, [rectangle(1, 0, 0, 5, 5, is_crowd=True)]),
    }
    _, found = instance_ap_and_matches(truth, {}, CLASSES)
    assert found == {"a": [ClassMatches(1, 2), ClassMatches(2, 1)], "b": []}
    assert [(item.category, item.truths) for item in decode_matches(encode_matches(found), "here")["a"]] == [
        (1, 2),
        (2, 1),
    ]


def test_another_file_is_refused():
    with pytest.raises(IntegrityError, match="here: not a readable match records"):
        decode_matches(b"no parquet", "here")
