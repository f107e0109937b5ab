from __future__ import annotations

from collections.abc import Iterator

import pytest

from sskd_core.export import latency
from sskd_core.export.latency import measure_latency


def test_percentiles_of_the_runs_after_the_warm_up(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    def clock() -> Iterator[float]:
        now = 0.0
        for milliseconds in range(1, 102):
            yield now
            now += milliseconds / 1e3
            yield now

    times = clock()
    monkeypatch.setattr(latency.time, "perf_counter", lambda: next(times))
    found = measure_latency(lambda: calls.append(1), runs=101)
    assert len(calls) == 104
    assert (found.p50, found.p95) == pytest.approx((51.0, 96.0))
