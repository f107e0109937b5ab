from __future__ import annotations

import pytest

from sskd_core.cli.format import duration, figure, rate


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-1, "0s"), (0.4, "0s"), (59.4, "59s"), (59.6, "1m 00s"), (200, "3m 20s"), (3599.6, "1h 00m"), (7500, "2h 05m")],
)
def test_duration(seconds: float, text: str):
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("per_second", "text"),
    [(5.23, "5.2 images/s"), (250.0, "250 images/s"), (0.5, "2.0 s/image"), (1.0, "1.0 images/s")],
)
def test_rate(per_second: float, text: str):
    assert rate(per_second, "images") == text


@pytest.mark.parametrize(("value", "text"), [(0.123456, "0.123"), (41.15, "41.1"), (12345.6, "12346"), (0, "0")])
def test_figure(value: float, text: str):
    assert figure(value) == text
