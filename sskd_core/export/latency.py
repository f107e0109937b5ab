"""How long one run of a graph takes on this machine."""

from __future__ import annotations

import time
from collections.abc import Callable
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


def measure_latency(call: Callable[[], object], runs: int) -> Latency:
    """Time a call after a few that do not count.

    Args:
        call: what is timed.
        runs: how often.
    """
    for _ in range(_WARM_UP_RUNS):
        call()
    taken = []
    for _ in range(runs):
        began = time.perf_counter()
        call()
        taken.append((time.perf_counter() - began) * 1e3)
    return Latency(float(np.percentile(taken, 50)), float(np.percentile(taken, 95)))
