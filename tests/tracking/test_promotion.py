"""Promotion and rollback on a real registry and a real store: idempotent, healed after any cut, safe for two."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from multiprocessing import get_context
from typing import Any

import pytest
from finished_pipeline import tiny_onnx
from mlflow.tracking import MlflowClient
from promotion_fixtures import NAME, register

from sskd_core.config.gate import GateConfig
from sskd_core.config.storage import StorageConfig
from sskd_core.config.tracking import TrackingConfig
from sskd_core.errors import UserError
from sskd_core.storage.store import ObjectStore
from sskd_core.tracking.candidate import MANIFEST_TAG
from sskd_core.tracking.client import connect
from sskd_core.tracking.promotion import Outcome, Promotion
from sskd_core.tracking.registry import (
    CHALLENGER,
    FILE_TAG,
    GATE_TAG,
    VERDICT_TAG,
    Registration,
    aliases,
    ensure_version,
    read_model,
    resolve,
)

POLICY = GateConfig(min_gain_over_supervised=-100.0)


@pytest.fixture
def promotion(client: MlflowClient, store: ObjectStore) -> Promotion:
    return Promotion(client, store, NAME)


def numbers(outcome: Outcome) -> tuple[str, str | None, str | None]:
    return outcome.status, outcome.champion, outcome.previous


def test_the_better_one_becomes_champion_and_the_one_before_is_kept(client, store: ObjectStore, promotion: Promotion):
    versions = [register(client, store, name, refined) for name, refined in (("a", 30), ("b", 50), ("c", 70))]
    outcomes = [numbers(promotion.promote(version, POLICY)) for version in versions]
    assert outcomes == [("promoted", "1", None), ("promoted", "2", "1"), ("promoted", "3", "2")]
    assert aliases(client, NAME) == {"champion": "3", "previous": "2"}
    tags = client.get_model_version(NAME, "3").tags
    assert tags[VERDICT_TAG] == "passed"
    assert '"min_gain_over_champion"' in tags[GATE_TAG]


def test_a_second_call_changes_nothing(client, store: ObjectStore, promotion: Promotion):
    version = register(client, store, "a", 30)
    promotion.promote(version, POLICY)
    assert numbers(promotion.promote(version, POLICY)) == ("unchanged", "1", None)
    assert [item.number for item in promotion.log.all()] == [1]


def test_a_worse_one_is_refused_with_figures_and_no_alias_moves(client, store: ObjectStore, promotion: Promotion):
    promotion.promote(register(client, store, "a", 50), POLICY)
    outcome = promotion.promote(register(client, store, "b", 30), POLICY)
    assert numbers(outcome) == ("refused", "1", None)
    failed = [rule for rule in outcome.gate["rules"] if rule["verdict"] == "failed"]
    assert [rule["name"] for rule in failed] == ["min_gain_over_champion"]
    assert failed[0]["figures"]["gain"] == pytest.approx(-20, abs=1.5)
    assert aliases(client, NAME) == {"champion": "1", CHALLENGER: "2"}
    assert client.get_model_version(NAME, "2").tags[VERDICT_TAG] == "rejected"


def test_force_needs_a_reason_which_is_recorded(client, store: ObjectStore, promotion: Promotion):
    promotion.promote(register(client, store, "a", 50), POLICY)
    outcome = promotion.promote(register(client, store, "b", 30), POLICY, reason="the camera was changed")
    assert numbers(outcome) == ("promoted", "2", "1")
    tags = client.get_model_version(NAME, "2").tags
    assert (tags[VERDICT_TAG], tags["sskd.forced_because"]) == ("forced", "the camera was changed")
    head = promotion.log.head()
    assert (head.forced, head.reason, head.gate["passed"]) == (True, "the camera was changed", False)


def test_rollback_restores_byte_for_byte(client, store: ObjectStore, promotion: Promotion, tracking: TrackingConfig):
    for name, refined in (("a", 30), ("b", 50)):
        promotion.promote(register(client, store, name, refined), POLICY)
    uri = f"models:/{NAME}@champion"
    assert read_model(uri, tracking, store) == tiny_onnx(50)
    assert numbers(promotion.rollback("misses triangles")) == ("rolled back", "1", "2")
    assert read_model(uri, tracking, store) == tiny_onnx(30)
    assert promotion.log.head().reason == "misses triangles"
    assert numbers(promotion.rollback()) == ("rolled back", "2", "1")
    assert read_model(uri, tracking, store) == tiny_onnx(50)


def test_there_must_be_something_to_go_back_to(client, store: ObjectStore, promotion: Promotion):
    promotion.promote(register(client, store, "a", 30), POLICY)
    with pytest.raises(UserError, match="has no version with the alias 'previous' to go back to"):
        promotion.rollback()


@pytest.mark.parametrize("gone", [True, False])
def test_a_file_that_is_gone_or_altered_is_refused_with_its_digest(
    client, store: ObjectStore, promotion: Promotion, gone: bool
):
    for name, refined in (("a", 30), ("b", 50)):
        promotion.promote(register(client, store, name, refined), POLICY)
    uri, digest = client.get_model_version(NAME, "1").tags[FILE_TAG].split(" ")
    store.delete(uri) if gone else store.put(uri, b"another network")
    with pytest.raises(UserError, match=digest):
        promotion.rollback()
    assert aliases(client, NAME) == {"champion": "2", "previous": "1"}


def test_a_champion_whose_manifests_are_gone_is_beaten_by_force_alone(client, store: ObjectStore, promotion: Promotion):
    promotion.promote(register(client, store, "a", 30), POLICY)
    uri = client.get_model_version(NAME, "1").tags[f"{MANIFEST_TAG}evaluation"].split(" ")[0]
    store.delete(uri)
    better = register(client, store, "b", 90)
    outcome = promotion.promote(better, POLICY)
    assert outcome.status == "refused"
    rule = next(rule for rule in outcome.gate["rules"] if rule["name"] == "same_test_and_evaluator")
    assert uri in rule["reason"]
    assert promotion.promote(better, POLICY, reason="the bucket was cleaned").status == "promoted"


def test_a_champion_of_before_there_were_decisions_is_taken_over(client, store: ObjectStore, promotion: Promotion):
    client.set_registered_model_alias(NAME, "champion", register(client, store, "a", 30).version)
    assert numbers(promotion.promote(register(client, store, "b", 20), POLICY)) == ("refused", "1", None)
    assert numbers(promotion.promote(register(client, store, "c", 60), POLICY)) == ("promoted", "3", "1")


class _Cut(BaseException):
    """The process dies."""


class Cutting:
    """Passes calls on and dies before the n-th one that writes."""

    _WRITES = ("set_", "delete_", "create_", "put_if_absent")

    def __init__(self, target: Any, budget: list[int]) -> None:
        self._target, self._budget = target, budget

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._target, name)
        if not name.startswith(self._WRITES):
            return found

        def call(*args: Any, **values: Any) -> Any:
            if self._budget[0] == 0:
                raise _Cut
            self._budget[0] -= 1
            return found(*args, **values)

        return call


@pytest.mark.parametrize("command", ["promote", "rollback"])
def test_a_cut_between_any_two_calls_is_healed_by_the_same_command(client, store: ObjectStore, command: str):
    """Every place is tried: the process dies before its first write, its second, ... until it gets through."""
    versions = [register(client, store, name, refined) for name, refined in (("a", 30), ("b", 50))]

    def run(target: Promotion, version: Any) -> Outcome:
        return target.promote(version, POLICY) if command == "promote" else target.rollback()

    tries = 0
    while True:
        name = f"model-{tries}"
        mine = [_copied(client, version, name) for version in versions]
        clean = Promotion(client, store, name)
        clean.promote(mine[0], POLICY)
        if command == "rollback":
            clean.promote(mine[1], POLICY)
        budget = [tries]
        cut = Promotion(Cutting(client, budget), Cutting(store, budget), name)
        try:
            run(cut, mine[1])
        except _Cut:
            assert numbers(run(clean, mine[1]))[1:] == (("2", "1") if command == "promote" else ("1", "2")), tries
        else:
            break
        expected = {"champion": "2", "previous": "1"} if command == "promote" else {"champion": "1", "previous": "2"}
        assert aliases(client, name) == expected, tries
        assert client.get_model_version(name, "2").tags[VERDICT_TAG] == "passed"
        assert len(list(clean.log.all())) == (2 if command == "promote" else 3)
        tries += 1
    assert tries >= 3


def _copied(client: MlflowClient, version: Any, name: str) -> Any:
    wanted = Registration(name, version.source, None, version.tags["sskd.fingerprint"], dict(version.tags))
    return ensure_version(client, wanted)


class Overtaken:
    """Passes calls on; before the first call of one name somebody else acts."""

    def __init__(self, target: Any, name: str, act: Callable[[], object]) -> None:
        self._target, self._name, self._act = target, name, act

    def __getattr__(self, name: str) -> Any:
        if name == self._name:
            self._name = ""
            self._act()
        return getattr(self._target, name)


@pytest.mark.parametrize(
    ("call", "second", "status", "expected"),
    [
        # Judged against version 1, but version 3 is champion by the time that it would be written down.
        ("put_if_absent", 50, "refused", {"champion": "3", "previous": "1"}),
        ("put_if_absent", 95, "promoted", {"champion": "2", "previous": "3"}),
        # Written down, but overtaken before the aliases are set: what is newer stays.
        ("set_registered_model_alias", 50, "promoted", {"champion": "3", "previous": "2"}),
    ],
)
def test_whoever_is_overtaken_looks_again(
    client, store: ObjectStore, promotion: Promotion, call: str, second: float, status: str, expected: dict[str, str]
):
    promotion.promote(register(client, store, "a", 20), POLICY)
    mine, other = register(client, store, "b", second), register(client, store, "c", 80)

    def overtake(target: Any) -> Any:
        return Overtaken(target, call, lambda: promotion.promote(other, POLICY))

    slow = (
        Promotion(overtake(client), store, NAME)
        if call.startswith("set_")
        else Promotion(client, overtake(store), NAME)
    )
    assert slow.promote(mine, POLICY).status == status
    assert {key: value for key, value in aliases(client, NAME).items() if key != CHALLENGER} == expected


def promote_in_process(storage: StorageConfig, tracking: TrackingConfig, number: str, gate: Any, told: Any) -> None:
    """Promote a version as soon as the other process is ready, too."""
    store = ObjectStore(storage)
    client = connect(tracking, storage)
    version = resolve(client, NAME, number)
    gate.wait()
    told.put((number, Promotion(client, store, NAME).promote(version, POLICY).status))


def test_two_processes_leave_one_consistent_champion(
    client, store: ObjectStore, promotion: Promotion, tracking: TrackingConfig
):
    promotion.promote(register(client, store, "a", 20), POLICY)
    for name, refined in (("b", 50), ("c", 80)):
        register(client, store, name, refined)
    context = get_context("spawn")
    gate, told = context.Barrier(2), context.Queue()
    processes = [
        context.Process(target=promote_in_process, args=(store.config, tracking, number, gate, told))
        for number in ("2", "3")
    ]
    for process in processes:
        process.start()
    outcomes = dict(told.get(timeout=120) for _ in processes)
    for process in processes:
        process.join()
    # Version 3 beats both others, so it ends as champion whoever was first; 2 was champion in between or came too late.
    assert outcomes["3"] == "promoted"
    assert outcomes["2"] in ("promoted", "refused")
    decisions = list(promotion.log.all())
    assert [item.number for item in decisions] == list(range(1, len(decisions) + 1))
    assert len(decisions) == (3 if outcomes["2"] == "promoted" else 2)
    assert all(later.previous == earlier.champion for earlier, later in pairwise(decisions))
    head = decisions[-1]
    assert aliases(client, NAME)["champion"] == head.champion.version == "3"
    assert aliases(client, NAME)["previous"] == head.previous.version
