"""The rules that need no champion."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from sskd_core.config.gate import GateConfig
from sskd_core.storage.digest import digest_json
from sskd_core.storage.manifest import InputRef, Manifest
from sskd_core.tracking.candidate import Candidate
from sskd_core.tracking.gate import GateRecord, Rule, judge_alone

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
    refined: float = 40.0,
    supervised: float = 30.0,
    split: str = "test",
    evaluated: Mapping[str, InputRef] = {},
    exported: Mapping[str, InputRef] = {},
    onnx: Mapping[str, float] = {},
    labels: Mapping[str, float] | None = {},
    provider: str = "CPUExecutionProvider",
    inherited: Sequence[str] = ("Apache-2.0",),
    **policy: Any,
) -> GateRecord:
    evaluation = manifest(
        "evaluate",
        metrics={"refined_student/mask_ap": refined, "supervised_student/mask_ap": supervised},
        facts={"split": split, "evaluator": "hotcoco 1.3.0"},
        inputs={"data": DATA, "refined_student": JUDGED, **evaluated},
    )
    figures = {"mask_ap_difference": 0.05, "max_mask_logit_difference": 1e-5, "fp32/latency_ms_p50": 8.0}
    exporting = manifest(
        "export_onnx",
        metrics={**figures, "fp32/bytes": 3e6, "int8_static/latency_ms_p50": 4.0, "int8_static/bytes": 1e6, **onnx},
        facts={"provider": provider},
        config={"max_ap_difference": 0.1},
        inputs={"data": DATA, "student": JUDGED, **exported},
        licences=list(inherited),
    )
    learned = (
        None if labels is None else manifest("pseudo_label", metrics={"empty_rate": 0.2, "class_drift": 0.1, **labels})
    )
    candidate = Candidate(STUDENT, evaluation, exporting, manifest("prepare"), learned)
    limits = {"min_mask_ap": 35.0, "min_gain_over_supervised": 5.0, **policy}
    return GateRecord(judge_alone(GateConfig(**limits), candidate))


def failed(record: GateRecord) -> list[str]:
    return [rule.name for rule in record.rules if rule.verdict == "failed"]


def rule(record: GateRecord, name: str) -> Rule:
    return next(rule for rule in record.rules if rule.name == name)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, []),
        ({"refined": 35.0, "supervised": 30.0}, []),
        ({"refined": 34.9, "supervised": 29.0}, ["min_mask_ap"]),
        ({"refined": 40.0, "supervised": 35.1}, ["min_gain_over_supervised"]),
        ({"onnx": {"mask_ap_difference": 0.1}}, []),
        ({"onnx": {"mask_ap_difference": 0.11}}, ["onnx_parity"]),
        ({"split": "val"}, ["comparable"]),
        ({"evaluated": {"refined_student": OTHER}}, ["comparable"]),
        ({"exported": {"student": OTHER}}, ["comparable"]),
        ({"evaluated": {"data": OTHER}}, ["comparable"]),
        ({"exported": {"data": OTHER}}, ["comparable"]),
        ({"refined": 10.0, "supervised": 30.0}, ["min_mask_ap", "min_gain_over_supervised"]),
        ({"max_latency_ms": 8.0}, []),
        ({"max_latency_ms": 7.9}, ["max_latency_ms"]),
        ({"max_latency_ms": 7.9, "variant": "int8_static"}, []),
        ({"max_latency_ms": 99.0, "variant": "fp16"}, ["max_latency_ms"]),
        ({"max_latency_ms": 99.0, "provider": "CUDAExecutionProvider"}, ["max_latency_ms"]),
        ({"max_megabytes": 3.0}, []),
        ({"max_megabytes": 2.9}, ["max_megabytes"]),
        ({"max_megabytes": 99.0, "variant": "fp16"}, ["max_megabytes"]),
        ({"max_empty_rate": 0.2}, []),
        ({"max_empty_rate": 0.19}, ["label_health"]),
        ({"max_empty_rate": 0.3, "labels": {"new_empty_rate": 0.31}}, ["label_health"]),
        ({"max_class_drift": 0.09}, ["label_health"]),
        ({"max_empty_rate": 0.0, "labels": None}, []),
        ({"licences": ["Apache-2.0", "CC-BY-4.0"]}, []),
        ({"licences": []}, ["licences"]),
    ],
)
def test_rules(values: dict[str, Any], expected: list[str]):
    record = decide(**values)
    assert failed(record) == expected
    assert record.passed is not bool(expected)


def test_the_record_says_what_decided():
    record = decide(min_mask_ap=50.0, max_latency_ms=5.0)
    plain = record.to_dict()
    assert json.loads(json.dumps(plain)) == plain
    assert plain["passed"] is False
    floor = rule(record, "min_mask_ap")
    assert floor.figures == {"mask_ap": 40.0, "limit": 50.0}
    assert floor.reason == "40.0 mask AP on test stays below the floor of 50.0"
    assert rule(record, "min_gain_over_supervised").figures["gain"] == 10.0
    assert "hotcoco 1.3.0" in rule(record, "comparable").reason
    assert rule(record, "max_latency_ms").reason == "8.0 ms an image (fp32, CPUExecutionProvider), more than 5 ms"


def test_a_rule_without_a_limit_does_not_apply():
    record = decide()
    unlimited = ["max_latency_ms", "max_megabytes", "label_health", "licences"]
    assert [item.name for item in record.rules if item.verdict == "not applicable"] == unlimited
    assert record.passed


def test_new_labels_are_judged_by_themselves():
    found = rule(decide(max_empty_rate=0.3, labels={"new_empty_rate": 0.9}), "label_health")
    assert found.figures == {"empty_rate": 0.2, "new_empty_rate": 0.9, "max_empty_rate": 0.3}
    assert found.reason == "new_empty_rate 0.90 is above 0.3"


def test_a_licence_that_is_not_on_the_list_is_named():
    found = rule(decide(inherited=["Apache-2.0", "CC-BY-NC-4.0"], licences=["Apache-2.0"]), "licences")
    assert found.reason == "not allowed: CC-BY-NC-4.0"
