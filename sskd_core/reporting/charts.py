"""Charts as inline SVG: lines and bars with axes, units and a legend, coloured by the page's own style sheet.

No script and no library: the report must open anywhere, in a mail or from a bucket, and in twenty years.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

Points = Sequence[tuple[float, float]]
_WIDTH, _HEIGHT = 560, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 54, 14, 14, 42
_TICKS = 5
_COLOURS = 6


def line_chart(title: str, series: Mapping[str, Points], x_label: str, y_label: str) -> str:
    """Return a line chart.

    Args:
        title: for screen readers.
        series: name -> (x, y) points in the order of x; empty series are left out.
        x_label: name and unit of the x axis.
        y_label: likewise.

    Returns:
        An `<svg>` element, or an empty string when there is nothing to draw.
    """
    drawn = {name: points for name, points in series.items() if points}
    if not drawn:
        return ""
    everything = [point for points in drawn.values() for point in points]
    x_ticks = nice_ticks(min(x for x, _ in everything), max(x for x, _ in everything))
    y_ticks = nice_ticks(min(0.0, *(y for _, y in everything)), max(y for _, y in everything))
    body = [_axes(x_ticks, y_ticks, x_label, y_label)]
    for number, points in enumerate(drawn.values()):
        place = [(_x(x, x_ticks), _y(y, y_ticks)) for x, y in points]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in place)
        body.append(f'<polyline class="series c{number % _COLOURS}" points="{path}"/>')
        if len(place) <= 12:
            body += [f'<circle class="dot c{number % _COLOURS}" cx="{x:.1f}" cy="{y:.1f}" r="3"/>' for x, y in place]
    return _svg(title, body) + _legend(list(drawn))


def bar_chart(title: str, bars: Mapping[str, float], unit: str) -> str:
    """Return horizontal bars with their values.

    Args:
        title: for screen readers.
        bars: label -> value, not negative.
        unit: written behind each value.
    """
    if not bars:
        return ""
    longest = max(max(bars.values()), 1e-9)
    row, left, width = 26, 170, 300
    body = []
    for number, (label, value) in enumerate(bars.items()):
        top = number * row + 6
        body.append(f'<text class="label" x="{left - 8}" y="{top + 13}" text-anchor="end">{escape(label)}</text>')
        body.append(
            f'<rect class="bar" x="{left}" y="{top}" width="{max(1.0, value / longest * width):.1f}" '
            f'height="{row - 8}" rx="3"/>'
        )
        shown = f"{_short(value)} {escape(unit)}".strip()
        body.append(f'<text class="value" x="{left + value / longest * width + 6:.1f}" y="{top + 13}">{shown}</text>')
    return _svg(title, body, _WIDTH, len(bars) * row + 10)


def nice_ticks(low: float, high: float) -> list[float]:
    """Return about five round numbers that enclose low..high."""
    if high <= low:
        high = low + (abs(low) or 1.0)
    raw = (high - low) / (_TICKS - 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(number * step, 10) for number in range(first, last + 1)]


def _x(value: float, ticks: Sequence[float]) -> float:
    return _LEFT + (value - ticks[0]) / (ticks[-1] - ticks[0]) * (_WIDTH - _LEFT - _RIGHT)


def _y(value: float, ticks: Sequence[float]) -> float:
    return _HEIGHT - _BOTTOM - (value - ticks[0]) / (ticks[-1] - ticks[0]) * (_HEIGHT - _TOP - _BOTTOM)


def _axes(x_ticks: Sequence[float], y_ticks: Sequence[float], x_label: str, y_label: str) -> str:
    parts = []
    for tick in y_ticks:
        y = _y(tick, y_ticks)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="tick" x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{_short(tick)}</text>')
    for tick in x_ticks:
        x = _x(tick, x_ticks)
        parts.append(
            f'<text class="tick" x="{x:.1f}" y="{_HEIGHT - _BOTTOM + 16}" text-anchor="middle">{_short(tick)}</text>'
        )
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    parts.append(f'<text class="axis" x="{middle}" y="{_HEIGHT - 6}" text-anchor="middle">{escape(x_label)}</text>')
    turn = f"rotate(-90 12 {(_HEIGHT - _BOTTOM) / 2})"
    parts.append(
        f'<text class="axis" x="12" y="{(_HEIGHT - _BOTTOM) / 2}" text-anchor="middle" '
        f'transform="{turn}">{escape(y_label)}</text>'
    )
    return "".join(parts)


def _svg(title: str, body: Sequence[str], width: int = _WIDTH, height: int = _HEIGHT) -> str:
    return (
        f'<svg class="chart" role="img" viewBox="0 0 {width} {height}" aria-label="{escape(title)}">'
        f"<title>{escape(title)}</title>{''.join(body)}</svg>"
    )


def _legend(names: Sequence[str]) -> str:
    keys = (f'<li><span class="key c{n % _COLOURS}"></span>{escape(name)}</li>' for n, name in enumerate(names))
    return f'<ul class="legend">{"".join(keys)}</ul>'


def _short(value: float) -> str:
    if value >= 10_000:
        return f"{value / 1000:g}k"
    return f"{value:.4g}"
