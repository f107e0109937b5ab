"""Labels of old images stand for the same teacher, the same rules and the data set that was gone on from."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

from sskd_core.config.label import PseudoLabelConfig, PseudoLabelStageConfig
from sskd_core.data.records import ImageRecord
from sskd_core.errors import IntegrityError
from sskd_core.labels.earlier import joined_shards, left_to_label
from sskd_core.storage.digest import digest_json
from sskd_core.storage.manifest import InputRef, Manifest, ObjectRef

CONFIG = PseudoLabelStageConfig(label=PseudoLabelConfig())
OLD_DATA = InputRef(uri="s3://b/old.json", digest=digest_json("old"))
RECORDS = [ImageRecord(f"{number}.png", "s3://b/x", digest_json(number), 1, 1, 1) for number in range(5)]


def manifest(stage: str, **values: Any) -> Manifest:
    empty = {
        "config_digest": digest_json({}),
        "code_digest": digest_json({}),
        "created": dt.datetime(2025, 1, 1, tzinfo=dt.UTC),
    }
    return Manifest(
        **{"stage": stage, "fingerprint": digest_json(stage), "uri": f"s3://b/{stage}.json", **empty, **values}
    )


def inputs(**changes: Any) -> dict[str, Manifest]:
    teacher = manifest("adapt_teacher")
    values = {
        "facts": {"labeller": teacher.fingerprint},
        "config": {"label": CONFIG.label.fingerprint_dict()},
        "inputs": {"data": OLD_DATA},
        "metrics": {"images": 3.0},
    }
    data = manifest("prepare", inputs={"earlier": OLD_DATA})
    return {"data": data, "teacher": teacher, "earlier": manifest("pseudo_label", **{**values, **changes})}


def test_only_what_the_earlier_labels_do_not_cover_is_left():
    assert left_to_label(RECORDS, CONFIG, inputs()) == RECORDS[3:]
    without = {name: item for name, item in inputs().items() if name != "earlier"}
    assert left_to_label(RECORDS, CONFIG, without) == RECORDS


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"facts": {"labeller": digest_json("another")}}, "are of another teacher"),
        ({"config": {"label": {"score_threshold": 0.9}}}, "were made by other rules"),
        ({"inputs": {"data": InputRef(uri="s3://b/x.json", digest=digest_json("x"))}}, "does not go on from"),
    ],
)
def test_labels_that_do_not_hold_are_refused(changes: dict[str, Any], message: str):
    with pytest.raises(IntegrityError, match=message):
        left_to_label(RECORDS, CONFIG, inputs(**changes))


def test_a_limit_of_health_changes_no_label():
    stricter = PseudoLabelStageConfig(label=PseudoLabelConfig(max_empty_rate=0.1, batch=1))
    assert left_to_label(RECORDS, stricter, inputs()) == RECORDS[3:]


def test_shards_are_numbered_through():
    old, new = (
        [ObjectRef(name=f"shards/{n:05d}", uri=f"s3://b/{kind}{n}", digest=digest_json(n), bytes=1) for n in range(2)]
        for kind in "ab"
    )
    joined = joined_shards(old, new)
    assert [(ref.name, ref.uri) for ref in joined] == [
        ("shards/00000", "s3://b/a0"),
        ("shards/00001", "s3://b/a1"),
        ("shards/00002", "s3://b/b0"),
        ("shards/00003", "s3://b/b1"),
    ]


def test_a_rule_that_came_with_a_later_release_had_its_default_before():
    rules = {key: value for key, value in CONFIG.label.fingerprint_dict().items() if key != "flip"}
    assert left_to_label(RECORDS, CONFIG, inputs(config={"label": rules})) == RECORDS[3:]
    flipped = PseudoLabelStageConfig(label=PseudoLabelConfig(flip=True))
    with pytest.raises(IntegrityError, match="were made by other rules"):
        left_to_label(RECORDS, flipped, inputs(config={"label": rules}))


@pytest.mark.parametrize("config", [{}, {"label": {"a_rule_of_another_tool": 1}}])
def test_rules_that_cannot_be_read_are_other_rules(config: dict[str, Any]):
    with pytest.raises(IntegrityError, match="were made by other rules"):
        left_to_label(RECORDS, CONFIG, inputs(config=config))
