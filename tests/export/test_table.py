from __future__ import annotations

import math

import pytest

from sskd_core.export import table
from sskd_core.export.latency import Latency
from sskd_core.export.parity import Parity

LATENCY = Latency(4.0, 5.0)


@pytest.mark.parametrize(
    ("precision", "onnx_ap", "delivered", "reason"),
    [
        ("fp32", 30.0, True, "equal to PyTorch within the limits"),
        ("fp16", 39.6, True, "loses 0.40 AP, at most 0.5"),
        ("fp16", 41.0, True, "loses -1.00 AP, at most 0.5"),
        ("int8_static", 39.4, False, "loses 0.60 AP, more than 0.5"),
        ("int8_static", math.nan, False, "loses nan AP, more than 0.5"),
    ],
)
def test_a_variant_is_delivered_unless_it_loses_too_much(
    precision: str, onnx_ap: float, delivered: bool, reason: str
) -> None:
    found = table.describe(precision, 1000, Parity(0.1, 0.2, 40.0, onnx_ap), LATENCY, 0.5)
    assert (found.delivered, found.reason) == (delivered, reason)


def test_the_table_as_json_and_as_metrics() -> None:
    found = table.describe("fp16", 1000, Parity(math.nan, 0.2, 40.0, 39.75), LATENCY, 0.5)
    row = table.rows([found])[0]
    assert (row["max_mask_logit_difference"], row["max_class_logit_difference"]) == (None, 0.2)
    assert table.metrics([found]) == {
        "fp16/mask_ap": 39.75,
        "fp16/mask_ap_loss": 0.25,
        "fp16/latency_ms_p50": 4.0,
        "fp16/latency_ms_p95": 5.0,
        "fp16/bytes": 1000.0,
    }
