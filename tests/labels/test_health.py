"""The health check of pseudo-labels: each limit, and the words of each refusal."""

from __future__ import annotations

import pytest

from sskd_core.config.label import PseudoLabelConfig
from sskd_core.data.records import Instance, LabeledImage, Rle
from sskd_core.errors import UserError
from sskd_core.labels.health import check_health, class_drift
from sskd_core.labels.statistics import count_labels

CLASSES = ["disc", "box", "star"]
PRIOR = {"disc": 10, "box": 10, "star": 0}
MASK = Rle(size=[1, 1], counts="01")


def statistics(per_image, rejected=None, best_score=0.9):
    images = [
        LabeledImage(str(number), 1, 1, [Instance(category, MASK, 0.5) for category in categories])
        for number, categories in enumerate(per_image)
    ]
    return count_labels(images, CLASSES, rejected or {}, best_score)


def test_healthy_labels_pass_with_their_figures():
    health = check_health(statistics([[0], [1], [0, 1], []]), PRIOR, PseudoLabelConfig())
    assert (health.empty_rate, health.class_drift) == (0.25, 0.0)


def test_no_instance_at_all_names_the_best_score_and_the_threshold():
    found = statistics([[], []], rejected={"score": 7, "area": 1}, best_score=0.21)
    with pytest.raises(UserError) as caught:
        check_health(found, PRIOR, PseudoLabelConfig(score_threshold=0.3, max_empty_rate=1.0))
    message = str(caught.value)
    assert "any of 2 images: best candidate score 0.210, rejected: area 1, score 7" in message
    assert "lower stages.pseudo_label.score_threshold (0.3)" in message
    assert "\n" not in message


def test_too_many_empty_images_are_refused_at_the_limit_only():
    found = statistics([[0, 1], [], [], []])
    check_health(found, PRIOR, PseudoLabelConfig(max_empty_rate=0.75))
    with pytest.raises(UserError, match=r"3 of 4 images \(75\.0%\).*max_empty_rate \(0\.7\)"):
        check_health(found, PRIOR, PseudoLabelConfig(max_empty_rate=0.7))


def test_one_class_only_is_refused_and_named():
    found = statistics([[2], [2]])
    with pytest.raises(UserError, match=r"1\.00 .*'star' has 100\.0% instead of 0\.0%.*class_thresholds"):
        check_health(found, PRIOR, PseudoLabelConfig(max_class_drift=0.6))
    assert check_health(found, PRIOR, PseudoLabelConfig(max_class_drift=1.0)).class_drift == 1.0


def test_without_labelled_instances_the_classes_are_not_judged():
    assert check_health(statistics([[2]]), {"disc": 0}, PseudoLabelConfig()).class_drift is None


def test_drift_is_half_the_sum_of_the_differences_of_shares():
    assert class_drift({"a": 3, "b": 1}, {"a": 1, "b": 1, "c": 2}) == pytest.approx(0.5)
    assert class_drift({"a": 30, "b": 10}, {"b": 1, "a": 3}) == 0
