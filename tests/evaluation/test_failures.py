from __future__ import annotations

from sskd_core.evaluation.failures import ImageScore, score_image, worst_images
from sskd_core.evaluation.matches import ClassMatches

ALL, AT_50, NONE = 0b1111111111, 0b1, 0
MATCHES = {
    "perfect": [ClassMatches(0, 2, [0.9, 0.8], [ALL, AT_50], [NONE, NONE])],
    "empty": [],
    "missed": [ClassMatches(0, 3, [0.9], [ALL], [NONE])],
    "wrong class": [ClassMatches(0, 1), ClassMatches(1, 0, [0.9], [NONE], [NONE])],
    "stray": [ClassMatches(0, 0, [0.9], [NONE], [NONE])],
}


def test_an_image_is_scored_at_one_threshold() -> None:
    assert score_image("a", MATCHES["perfect"], 0.5) == ImageScore("a", 1.0, 0, 0)
    assert score_image("a", MATCHES["perfect"], 0.85) == ImageScore("a", 2 / 3, 1, 0)
    assert score_image("a", MATCHES["empty"], 0.5) == ImageScore("a", 1.0, 0, 0)
    assert score_image("a", MATCHES["missed"], 0.5) == ImageScore("a", 0.5, 2, 0)
    assert score_image("a", MATCHES["wrong class"], 0.5) == ImageScore("a", 0.0, 1, 1)
    higher = [ClassMatches(0, 1, [0.9], [ALL - AT_50], [NONE])]
    assert score_image("a", higher, 0.5).f1 == 0.0


def test_what_coco_ignores_counts_as_neither() -> None:
    crowd = [ClassMatches(0, 1, [0.9, 0.8], [AT_50, NONE], [NONE, AT_50])]
    assert score_image("a", crowd, 0.5) == ImageScore("a", 1.0, 0, 0)


def test_the_worst_come_first_and_images_without_a_mistake_not_at_all() -> None:
    found = worst_images(MATCHES, 0.5, 10)
    assert [item.image_id for item in found] == ["wrong class", "stray", "missed"]
    assert worst_images(MATCHES, 0.5, 1) == found[:1]
    assert worst_images(MATCHES, 0.5, 0) == []
