"""Line charts and histograms as inline SVG: axes with units, few marks, no script and no library.

A chart is drawn in coordinates close to the pixels that it takes on a page, so that its text has the size of the text
around it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from markupsafe import Markup

from sskd_core.reporting.svg import Element, add, markup, picture

WIDTH, HEIGHT = 460, 250
STYLES = 8
"""Line styles of the style sheet, `s0` to `s7`; a ninth series looks like the first."""
MAX_POINTS = 160
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 12, 10, 44
_TICKS = 5
_DOTS = 12
_LEAST_EXPONENT = -2
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_SAME, _TINY = 1e-9, 1e-30

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Series:
    """One line.

    Attributes:
        name: for the legend.
        points: (x, y) in the order of x; points that are not finite are left out.
        mark: x of a point to ring.
    """

    name: str
    points: Points
    mark: float | None = None


@dataclass(frozen=True)
class Chart:
    """A drawing and what stands around it.

    Attributes:
        title: above it.
        svg: the drawing.
        legend: series names in the order of their styles; empty where one series needs none.
        note: a line below it.
    """

    title: str
    svg: Markup
    legend: tuple[str, ...] = ()
    note: str = ""


@dataclass(frozen=True)
class _Scale:
    """Maps low..high of the data to start..end of the drawing."""

    ticks: Sequence[float]
    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)


def line_chart(title: str, series: Sequence[Series], x_label: str, y_label: str, note: str = "") -> Chart | None:
    """Draw lines over a common x axis; both axes begin at 0 unless the data are negative.

    Args:
        title: of the chart.
        series: empty ones are left out.
        x_label: name and unit.
        y_label: name and unit.
        note: a line below the chart.

    Returns:
        The chart, or None when there is no point to draw.
    """
    finite = [Series(item.name, thin(_finite(item.points)), item.mark) for item in series]
    drawn = [item for item in finite if item.points]
    if not drawn:
        return None
    xs, ys = zip(*(point for item in drawn for point in item.points), strict=True)
    root, x, y = _frame(title, (min(0.0, *xs), max(xs)), (min(0.0, *ys), max(ys)), x_label, y_label)
    for number, item in enumerate(drawn):
        _line(root, item, f"s{number % STYLES}", x, y)
    return Chart(title, markup(root), tuple(item.name for item in drawn), note)


def histogram(title: str, counts: Sequence[int], low: float, high: float, x_label: str, y_label: str) -> Chart | None:
    """Draw how often values fall into bins of equal width between `low` and `high`; None without any value."""
    if not any(counts):
        return None
    root, x, y = _frame(title, (low, high), (0.0, float(max(counts))), x_label, y_label)
    width = (high - low) / len(counts)
    for number, count in enumerate(counts):
        if count:
            left, right = x(low + number * width), x(low + (number + 1) * width)
            top = y(count)
            add(root, "rect", "bin", x=left + 0.5, y=top, width=max(0.5, right - left - 1), height=y(0) - top)
    return Chart(title, markup(root))


def thin(points: Points, limit: int = MAX_POINTS) -> list[tuple[float, float]]:
    """Return at most `limit` points: the means of equal runs of neighbours, and the last point as it is."""
    if len(points) <= limit:
        return list(points)
    edges = [round(index * (len(points) - 1) / (limit - 1)) for index in range(limit)]
    runs = [points[first:last] for first, last in pairwise(edges)]
    return [(sum(x for x, _ in run) / len(run), sum(y for _, y in run) / len(run)) for run in runs] + [points[-1]]


def nice_ticks(low: float, high: float, wanted: int = _TICKS) -> list[float]:
    """Return about `wanted` round numbers, evenly spaced, that enclose low..high."""
    size = max(abs(low), abs(high))
    if high - low <= max(_SAME * size, _TINY):
        high = low + (size if size > _TINY else 1.0)
    raw = (high - low) / (wanted - 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1.0, 2.0, 2.5, 5.0, 10.0) if factor * power >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    digits = max(0, 2 - math.floor(math.log10(step)))
    return [round(number * step, digits) for number in range(first, last + 1)]


def power_of_ten(ticks: Sequence[float]) -> int:
    """Return the exponent to take out of an axis whose numbers are too small to be written beside it, else 0."""
    exponent = math.floor(math.log10(max(abs(tick) for tick in ticks)))
    return exponent if exponent < _LEAST_EXPONENT else 0


def tick_text(value: float) -> str:
    """Return a tick's number: `0.25`, `1500`, `20k`."""
    return f"{value / 1000:g}k" if abs(value) >= 10_000 else f"{value:.4g}"


def _finite(points: Points) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in points if math.isfinite(x) and math.isfinite(y)]


def _frame(
    title: str, x_range: tuple[float, float], y_range: tuple[float, float], x_label: str, y_label: str
) -> tuple[Element, _Scale, _Scale]:
    """Draw grid, ticks and labels. The y axis ends at a tick, the x axis where the data end."""
    y_ticks = nice_ticks(*y_range)
    x_ticks = nice_ticks(*x_range)
    x_low, x_high = x_range if x_range[1] > x_range[0] else (x_ticks[0], x_ticks[-1])
    bottom, right = HEIGHT - _BOTTOM, WIDTH - _RIGHT
    x = _Scale([tick for tick in x_ticks if x_low <= tick <= x_high], x_low, x_high, _LEFT, right)
    y = _Scale(y_ticks, y_ticks[0], y_ticks[-1], bottom, _TOP)
    root = picture(WIDTH, HEIGHT, f"{title}: {y_label} over {x_label}", "chart")
    exponent = power_of_ten(y_ticks)
    for tick in y.ticks:
        add(root, "line", "rule" if tick else "rule zero", x1=_LEFT, x2=right, y1=y(tick), y2=y(tick))
        text = tick_text(tick / 10.0**exponent)
        add(root, "text", "tick", text, x=_LEFT - 7, y=y(tick) + 4, text_anchor="end")
    for tick in x.ticks:
        anchor = "end" if x(tick) > right - 8 else "middle"
        add(root, "text", "tick", tick_text(tick), x=min(x(tick), right), y=bottom + 17, text_anchor=anchor)
    add(root, "text", "axis", x_label, x=(_LEFT + right) / 2, y=HEIGHT - 6, text_anchor="middle")
    middle = (_TOP + bottom) / 2
    scaled = f"{y_label} (\N{MULTIPLICATION SIGN}10{str(exponent).translate(_SUPERSCRIPT)})" if exponent else y_label
    add(root, "text", "axis", scaled, x=12, y=middle, text_anchor="middle", transform=f"rotate(-90 12 {middle:g})")
    return root, x, y


def _line(root: Element, item: Series, style: str, x: _Scale, y: _Scale) -> None:
    placed = [(x(across), y(up)) for across, up in item.points]
    if len(placed) > 1:
        add(root, "polyline", f"series {style}", points=" ".join(f"{a:.1f},{b:.1f}" for a, b in placed))
    if len(placed) <= _DOTS:
        for a, b in placed:
            add(root, "circle", f"dot {style}", cx=a, cy=b, r=2.5)
    for (across, _), (a, b) in zip(item.points, placed, strict=True):
        if across == item.mark:
            add(root, "circle", f"ring {style}", cx=a, cy=b, r=6)
