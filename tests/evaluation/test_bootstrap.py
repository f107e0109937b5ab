"""The paired bootstrap: its AP against the evaluator on drawn splits, and its decisions on cases with known answers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from random_splits import CLASSES, Predictions, Truth, random_split

from sskd_core.errors import DataError
from sskd_core.evaluation.bootstrap import MatchTable, paired_gain
from sskd_core.evaluation.instance_ap import instance_ap, instance_ap_and_matches
from sskd_core.evaluation.matches import ClassMatches, SplitMatches

ALL = 0b11_1111_1111


def with_distinct_scores(predictions: Predictions, rng: np.random.Generator) -> Predictions:
    return {key: [replace(item, score=float(rng.random())) for item in items] for key, items in predictions.items()}


def drawn(truth: Truth, predictions: Predictions, draw: np.ndarray) -> tuple[Truth, Predictions]:
    """Repeat images as a draw says, each copy an image of its own."""
    copies = [(image_id, copy) for image_id, times in zip(truth, draw, strict=True) for copy in range(int(times))]
    truths = {f"{image_id}#{copy}": truth[image_id] for image_id, copy in copies}
    return truths, {f"{image_id}#{copy}": predictions.get(image_id, []) for image_id, copy in copies}


@pytest.mark.parametrize("seed", range(30))
def test_a_drawn_split_has_the_ap_that_the_evaluator_gives_it(seed: int):
    rng = np.random.default_rng(seed)
    truth, predictions = random_split(seed)
    predictions = with_distinct_scores(predictions, rng)
    figures, matches = instance_ap_and_matches(truth, predictions, CLASSES)
    table = MatchTable(matches, len(CLASSES))
    draws = np.vstack(
        [np.ones((1, len(truth)), dtype=np.int64), rng.multinomial(len(truth), [1 / len(truth)] * len(truth), 4)]
    )
    found, per_class = table.mask_ap(draws), table.class_ap(draws)
    assert found[0] == pytest.approx(figures.mask_ap, abs=1e-9)
    for row, draw in enumerate(draws):
        expected = instance_ap(*drawn(truth, predictions, draw), CLASSES)
        assert found[row] == pytest.approx(expected.mask_ap, abs=1e-9)
        named = {name: None if np.isnan(value) else value for name, value in zip(CLASSES, per_class[row], strict=True)}
        assert named == {
            name: None if value is None else pytest.approx(value, abs=1e-9)
            for name, value in expected.per_class.items()
        }


def simulated(rng: np.random.Generator, images: int, skill: float) -> dict[str, list[ClassMatches]]:
    """Return a model that finds an object with probability `skill`, and as many strays as objects."""
    found = {}
    for number in range(images):
        hits = rng.random(3) < skill
        scores = np.where(hits, rng.beta(5, 2, 3), rng.beta(2, 5, 3))
        order = np.argsort(-scores)
        found[f"{number}"] = [
            ClassMatches(0, 3, scores[order].tolist(), [ALL if hit else 0 for hit in hits[order]], [0, 0, 0])
        ]
    return found


def test_of_equal_models_no_more_pass_than_stated():
    """The stated rate is one in twenty: the lower end of a 95 % interval lies above 0."""
    rng = np.random.default_rng(7)
    passed = 0
    for number in range(200):
        first, second = simulated(rng, 50, 0.6), simulated(rng, 50, 0.6)
        passed += paired_gain(first, second, ["thing"], resamples=100, seed=number).low > 0
    assert 0 < passed <= 10, passed


def test_a_better_model_is_told_from_an_equal_one():
    rng = np.random.default_rng(3)
    found = paired_gain(simulated(rng, 150, 0.8), simulated(rng, 150, 0.6), ["thing"])
    assert found.low > 0
    assert found.low < found.gain < found.high
    assert found.gain == pytest.approx(found.challenger - found.champion)
    assert found.class_gains == {"thing": pytest.approx(found.gain)}


def test_a_model_against_itself_gains_exactly_nothing():
    model = simulated(np.random.default_rng(0), 20, 0.5)
    found = paired_gain(model, model, ["thing"], resamples=50)
    assert (found.gain, found.low, found.high) == (0.0, 0.0, 0.0)


def test_the_interval_is_that_of_a_plain_bootstrap():
    """One object an image, found or not, without strays: AP50..95 is a step function of how many were found."""
    rng = np.random.default_rng(5)
    hits = rng.random((2, 80)) < [[0.7], [0.5]]
    first, second = (
        {f"{n}": [ClassMatches(0, 1, [0.9], [ALL], [0]) if hit else ClassMatches(0, 1)] for n, hit in enumerate(row)}
        for row in hits
    )
    found = paired_gain(first, second, ["thing"], resamples=2000, seed=1)
    draws = np.random.default_rng(1).multinomial(80, np.full(80, 1 / 80), size=2000)
    shares = draws @ hits.T / 80
    # Precision is 1 up to the recall that was reached, of 101 recalls.
    reached = (np.linspace(0, 1, 101)[None, None, :] <= shares[:, :, None] + 1e-12).mean(axis=2) * 100
    low, high = np.quantile(reached[:, 0] - reached[:, 1], [0.025, 0.975])
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-9)


def test_equal_seeds_give_equal_intervals():
    rng = np.random.default_rng(2)
    first, second = simulated(rng, 30, 0.6), simulated(rng, 30, 0.6)
    assert paired_gain(first, second, ["thing"], seed=4) == paired_gain(first, second, ["thing"], seed=4)
    assert paired_gain(first, second, ["thing"], seed=4).low != paired_gain(first, second, ["thing"], seed=5).low


def test_images_must_be_the_same():
    model: SplitMatches = {"a": [ClassMatches(0, 1)], "b": []}
    with pytest.raises(DataError, match=r"different images \(2 and 1\)"):
        paired_gain(model, {"a": [ClassMatches(0, 1)]}, ["thing"])
    with pytest.raises(DataError, match="different annotations of image 'a'"):
        paired_gain(model, {"a": [ClassMatches(0, 2)], "b": []}, ["thing"])
