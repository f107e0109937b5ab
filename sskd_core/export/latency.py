"""How long one run of a graph takes on this machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

_WARM_UP_RUNS = 3


@dataclass(frozen=True)
class Latency:
    """Wall-clock time of one call, milliseconds.

    Attributes:
        p50: median.
        p95: 95th percentile.
    """

    p50: float
    p95: float

    @classmethod
    def of(cls, milliseconds: Sequence[float]) -> Latency:
        """Return the percentiles of single times."""
        return cls(float(np.percentile(milliseconds, 50)), float(np.percentile(milliseconds, 95)))


def measure_latency(call: Callable[[], object], runs: int) -> Latency:
    """Time a call after a few that do not count.

    Args:
        call: what is timed.
        runs: how often.
    """
    for _ in range(_WARM_UP_RUNS):
        call()
    return Latency.of(time_runs(call, runs))


def time_runs(call: Callable[[], object], runs: int, clock: Callable[[], float] | None = None) -> list[float]:
    """Return the milliseconds of each of so many calls.

    Args:
        call: what is timed.
        runs: how often.
        clock: returns seconds; None for the clock on the wall.
    """
    now = clock or time.perf_counter
    taken = []
    for _ in range(runs):
        began = now()
        call()
        taken.append((now() - began) * 1e3)
    return taken
