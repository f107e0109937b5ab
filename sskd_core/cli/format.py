"""Times, rates and figures as short text."""

from __future__ import annotations


def duration(seconds: float) -> str:
    """Return `8s`, `3m 20s` or `2h 05m`."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m {whole % 60:02d}s"
    return f"{whole // 3600}h {whole % 3600 // 60:02d}m"


def rate(per_second: float, unit: str) -> str:
    """Return `5.2 images/s`, or `3.1 s/iteration` where one takes longer than a second."""
    if per_second >= 1:
        return f"{per_second:.1f} {unit}/s" if per_second < 100 else f"{per_second:.0f} {unit}/s"
    return f"{1 / per_second:.1f} s/{unit.removesuffix('s')}"


def figure(value: float) -> str:
    """Return a figure with about three significant digits."""
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
