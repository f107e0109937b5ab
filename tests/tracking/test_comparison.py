"""The rules against a champion, on evaluations in a real store."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from finished_pipeline import FinishedPipeline

from sskd_core.config.gate import GateConfig
from sskd_core.storage.digest import digest_json
from sskd_core.storage.store import ObjectStore
from sskd_core.tracking.candidate import ORIGINS, Candidate, candidate_of
from sskd_core.tracking.comparison import judge
from sskd_core.tracking.gate import Rule


def candidate(finished: FinishedPipeline) -> Candidate:
    return candidate_of({name: finished.register_inputs()[name] for name in ORIGINS}, finished.store)


def compared(
    store: ObjectStore, challenger: float, champion: float, changes: Mapping[str, Any] = {}, **policy: Any
) -> tuple[bool, dict[str, Rule]]:
    """Judge two pipelines whose students find their object on so many of the same 100 images."""
    second = candidate(FinishedPipeline(store, refined=challenger, name="challenger", changes=changes))
    first = candidate(FinishedPipeline(store, refined=champion, name="champion"))
    record = judge(GateConfig(**policy), second, first, store)
    assert record.champion == first.reference
    return record.passed, {rule.name: rule for rule in record.rules}


@pytest.mark.parametrize(
    ("challenger", "champion", "policy", "passes"),
    [
        (60, 40, {}, True),
        (40, 60, {}, False),
        (50, 50, {}, False),
        (51, 50, {}, False),  # one image is luck: in a third of the resamples it is not drawn
        (56, 50, {}, True),
        (60, 40, {"min_gain_over_champion": 15.0}, False),
        (50, 50, {"min_gain_over_champion": -0.1}, True),
        (49, 50, {"min_gain_over_champion": -5.0, "max_class_drop": 0.5}, False),
        (49, 50, {"min_gain_over_champion": -5.0, "max_class_drop": 1.5}, True),
    ],
)
def test_decisions_on_known_cases(
    store: ObjectStore, challenger: float, champion: float, policy: dict[str, float], passes: bool
):
    passed, rules = compared(store, challenger, champion, min_gain_over_supervised=-100.0, **policy)
    assert passed is passes
    gain = rules["min_gain_over_champion"]
    assert gain.figures["gain"] == pytest.approx(challenger - champion, abs=1.5)
    assert gain.figures["low"] <= gain.figures["gain"] <= gain.figures["high"]
    assert gain.figures["images"] == 100
    assert f"{gain.figures['low']:+.2f}" in gain.reason


def test_without_a_champion_its_rules_do_not_apply(store: ObjectStore):
    record = judge(GateConfig(max_class_drop=1.0), candidate(FinishedPipeline(store)), None, store)
    unjudged = [rule.name for rule in record.rules if rule.reason == "there is no champion yet"]
    assert unjudged == ["same_test_and_evaluator", "min_gain_over_champion", "max_class_drop"]
    assert record.passed
    assert record.champion is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prepare": {"facts": {"digests": {"test": digest_json("others")}}}}, "test split has digest"),
        ({"evaluate": {"facts": {"evaluator": "pycocotools 2.0"}}}, "measured by hotcoco 1.3.0, the challenger by"),
        ({"refine": {"facts": {"classes": ["box", "disc"]}}}, "knows the classes disc, box, the challenger box, disc"),
    ],
)
def test_what_was_not_measured_alike_is_not_compared(store: ObjectStore, changes: dict[str, Any], message: str):
    passed, rules = compared(store, 90, 10, changes)
    assert not passed
    assert rules["same_test_and_evaluator"].verdict == "failed"
    assert message in rules["same_test_and_evaluator"].reason
    assert rules["min_gain_over_champion"].verdict == "not applicable"


def test_a_champion_that_was_measured_beside_the_challenger_may_come_from_another_test_set(store: ObjectStore):
    first = FinishedPipeline(store, refined=80, name="champion")
    other = {"prepare": {"facts": {"digests": {"test": digest_json("new test set")}}}}
    beside = (first.manifests["refine"], 20.0)
    second = FinishedPipeline(store, refined=50, name="challenger", changes=other, champion=beside)
    record = judge(GateConfig(), candidate(second), candidate(first), store)
    gain = next(rule for rule in record.rules if rule.name == "min_gain_over_champion")
    assert record.passed
    assert gain.figures["champion"] == pytest.approx(20, abs=1.5), "its figure on the new test set counts"
