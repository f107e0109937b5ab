from __future__ import annotations

import pytest

from sskd_core.errors import IntegrityError
from sskd_core.storage.store import ObjectStore
from sskd_core.tracking.decisions import Decision, DecisionLog, Holder


def decision(number: int, version: str = "1", **values: object) -> Decision:
    holder = Holder(version=version, fingerprint=f"sha256:{version}")
    return Decision(**{"number": number, "action": "promote", "champion": holder, "previous": None, **values})


def test_an_empty_log_has_no_head(store: ObjectStore):
    log = DecisionLog(store, "student", "champion")
    assert log.head() is None
    assert list(log.all()) == []


def test_of_two_writers_of_a_number_one_wins(store: ObjectStore):
    log = DecisionLog(store, "student", "champion")
    first, second = decision(1, "1"), decision(1, "2")
    assert log.append(first) is True
    assert log.append(second) is False
    assert log.head() == first


def test_a_put_whose_answer_was_lost_counts(store: ObjectStore):
    log = DecisionLog(store, "student", "champion")
    lost = decision(1)
    assert log.append(lost)
    assert log.append(lost), "what stands is what this attempt wrote"


def test_decisions_keep_their_order_and_their_model(store: ObjectStore):
    log, other = DecisionLog(store, "a b/ü", "champion"), DecisionLog(store, "a b", "champion")
    for number in range(1, 12):
        assert log.append(decision(number, str(number)))
    assert [item.number for item in log.all()] == list(range(1, 12))
    assert log.head() == decision(11, "11", id=log.head().id, created=log.head().created)
    assert other.head() is None


def test_a_damaged_record_is_named(store: ObjectStore):
    log = DecisionLog(store, "student", "champion")
    store.put(f"{store.root}/registry/student/champion/00000001.json", b"{}")
    with pytest.raises(IntegrityError, match=r"00000001\.json: not a promotion record"):
        log.head()
