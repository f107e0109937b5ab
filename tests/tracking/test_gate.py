from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping
from types import MappingProxyType

import pytest

from sskd_core.config.finish import GateConfig
from sskd_core.storage.digest import digest_json
from sskd_core.storage.manifest import InputRef, Manifest
from sskd_core.tracking.gate import GateRecord, judge

DATA = InputRef(uri="s3://bucket/data.json", digest=digest_json("data"))


def manifest(stage: str, **values: object) -> Manifest:
    return Manifest(
        stage=stage,
        fingerprint=digest_json(stage),
        config_digest=digest_json({}),
        code_digest=digest_json({}),
        created=dt.datetime(2025, 1, 1, tzinfo=dt.UTC),
        uri=f"s3://bucket/{stage}.json",
        **{"inputs": {"data": DATA}, **values},
    )


STUDENT = manifest("refine")
JUDGED = InputRef(uri=STUDENT.uri, digest=STUDENT.digest)
OTHER = InputRef(uri=STUDENT.uri, digest=digest_json("another"))


def decide(
    config: GateConfig,
    refined: float = 40.0,
    supervised: float = 30.0,
    difference: float = 0.05,
    split: str = "test",
    evaluated: Mapping[str, InputRef] = MappingProxyType({}),
    exported: Mapping[str, InputRef] = MappingProxyType({}),
) -> GateRecord:
    evaluation = manifest(
        "evaluate",
        metrics={"refined_student/mask_ap": refined, "supervised_student/mask_ap": supervised},
        facts={"split": split, "evaluator": "hotcoco 1.3.0"},
        inputs={"data": DATA, "refined_student": JUDGED, **evaluated},
    )
    onnx = manifest(
        "export_onnx",
        metrics={"mask_ap_difference": difference, "max_mask_logit_difference": 1e-5},
        config={"max_ap_difference": 0.1},
        inputs={"data": DATA, "student": JUDGED, **exported},
    )
    return judge(config, STUDENT, evaluation, onnx)


def failed(record: GateRecord) -> list[str]:
    return [rule.name for rule in record.rules if not rule.passed]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, []),
        ({"refined": 35.0, "supervised": 30.0}, []),
        ({"refined": 34.9, "supervised": 29.0}, ["min_mask_ap"]),
        ({"refined": 40.0, "supervised": 35.1}, ["min_gain_over_supervised"]),
        ({"difference": 0.1}, []),
        ({"difference": 0.11}, ["onnx_parity"]),
        ({"split": "val"}, ["comparable"]),
        ({"evaluated": {"refined_student": OTHER}}, ["comparable"]),
        ({"exported": {"student": OTHER}}, ["comparable"]),
        ({"evaluated": {"data": OTHER}}, ["comparable"]),
        ({"exported": {"data": OTHER}}, ["comparable"]),
        ({"refined": 10.0, "supervised": 30.0}, ["min_mask_ap", "min_gain_over_supervised"]),
    ],
)
def test_rules(values: dict, expected: list[str]):
    record = decide(GateConfig(min_mask_ap=35.0, min_gain_over_supervised=5.0), **values)
    assert failed(record) == expected
    assert record.passed is not bool(expected)


def test_the_record_says_what_decided():
    record = decide(GateConfig(min_mask_ap=50.0), refined=40.0, supervised=30.0).to_dict()
    assert json.loads(json.dumps(record)) == record
    assert record["passed"] is False
    rules = {rule["name"]: rule for rule in record["rules"]}
    assert rules["min_mask_ap"]["figures"] == {"mask_ap": 40.0, "limit": 50.0}
    assert rules["min_mask_ap"]["reason"] == "40.0 mask AP on test stays below the floor of 50.0"
    assert rules["min_gain_over_supervised"]["figures"]["gain"] == 10.0
    assert "hotcoco 1.3.0" in rules["comparable"]["reason"]
