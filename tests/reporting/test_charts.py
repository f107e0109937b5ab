"""Charts: axes that hold the data, nothing drawn from nothing, no number that is none."""

from __future__ import annotations

import math
from itertools import pairwise
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sskd_core.reporting.charts import (
    HEIGHT,
    MAX_POINTS,
    WIDTH,
    Series,
    histogram,
    line_chart,
    nice_ticks,
    thin,
    tick_text,
)

values = st.floats(-1e9, 1e9, allow_subnormal=True)
steps = st.lists(st.integers(0, 10**6), min_size=1, max_size=30, unique=True).map(sorted)


def _drawn(chart):
    assert "nan" not in chart.svg
    assert "inf" not in chart.svg
    return ElementTree.fromstring(chart.svg)


@given(xs=steps, data=st.data())
def test_every_point_lies_inside_the_picture(xs, data):
    ys = data.draw(st.lists(values, min_size=len(xs), max_size=len(xs)))
    root = _drawn(line_chart("loss", [Series("a", list(zip(xs, ys, strict=True)))], "iteration", "loss"))
    for line in root.iter("polyline"):
        for point in line.get("points").split():
            x, y = map(float, point.split(","))
            assert 0 <= x <= WIDTH
            assert 0 <= y <= HEIGHT
    for dot in root.iter("circle"):
        assert 0 <= float(dot.get("cx")) <= WIDTH
        assert 0 <= float(dot.get("cy")) <= HEIGHT


@given(low=values, high=values)
def test_ticks_are_even_and_hold_the_data(low, high):
    low, high = min(low, high), max(low, high)
    ticks = nice_ticks(low, high)
    assert 2 <= len(ticks) <= 8
    gap = ticks[1] - ticks[0]
    assert gap > 0
    assert all(math.isclose(b - a, gap, rel_tol=1e-6) for a, b in pairwise(ticks))
    assert ticks[0] <= low + 1e-6 * gap
    assert ticks[-1] >= high - 1e-6 * gap


def test_one_point_is_a_dot():
    root = _drawn(line_chart("validation", [Series("a", [(100, 21.5)])], "iteration", "mask AP"))
    assert list(root.iter("polyline")) == []
    assert [item.get("class") for item in root.iter("circle")] == ["dot s0"]


def test_one_point_at_the_origin_is_a_dot():
    root = _drawn(line_chart("validation", [Series("a", [(0, 0.0)])], "iteration", "mask AP"))
    assert len(list(root.iter("circle"))) == 1


@pytest.mark.parametrize("points", [[], [(1, math.nan)], [(1, math.inf), (math.nan, 2.0)]])
def test_nothing_to_draw_is_no_chart(points):
    assert line_chart("loss", [Series("a", points)], "iteration", "loss") is None


def test_points_that_are_not_finite_are_left_out():
    chart = line_chart("loss", [Series("a", [(1, 2.0), (2, math.nan), (3, 1.0)])], "iteration", "loss")
    assert len(next(_drawn(chart).iter("polyline")).get("points").split()) == 2


def test_empty_series_have_no_place_in_the_legend():
    chart = line_chart("loss", [Series("empty", []), Series("full", [(1, 2.0)])], "iteration", "loss")
    assert chart.legend == ("full",)
    assert [item.get("class") for item in _drawn(chart).iter("circle")] == ["dot s0"]


def test_a_mark_rings_its_point():
    series = Series("a", [(100, 1.0), (200, 2.0)], mark=200)
    root = _drawn(line_chart("validation", [series], "iteration", "mask AP"))
    ring = next(item for item in root.iter("circle") if "ring" in item.get("class"))
    assert float(ring.get("cx")) == max(float(item.get("cx")) for item in root.iter("circle"))


def test_axes_carry_labels_and_numbers():
    root = _drawn(line_chart("validation", [Series("a", [(0, 0.0), (600, 28.0)])], "iteration", "mask AP (points)"))
    texts = [item.text for item in root.iter("text")]
    assert texts == ["0", "10", "20", "30", "0", "200", "400", "600", "iteration", "mask AP (points)"]
    assert root.get("aria-label") == "validation: mask AP (points) over iteration"


def test_the_height_of_a_bar_is_its_count():
    root = _drawn(histogram("scores", [0, 10, 20], 0.0, 1.0, "score", "labels"))
    heights = [float(item.get("height")) for item in root.iter("rect")]
    assert heights[1] == pytest.approx(2 * heights[0], abs=0.2)
    assert [float(item.get("x")) for item in root.iter("rect")] == sorted(float(i.get("x")) for i in root.iter("rect"))


def test_a_histogram_of_nothing_is_no_chart():
    assert histogram("scores", [0, 0], 0.0, 1.0, "score", "labels") is None


@given(ys=st.lists(st.floats(-100, 100), max_size=10) | st.lists(st.floats(-100, 100), min_size=150, max_size=400))
def test_thinning_keeps_bounds_and_end(ys):
    points = list(enumerate(ys))
    kept = thin(points)
    assert len(kept) == min(len(points), MAX_POINTS)
    if ys:
        assert kept[-1] == points[-1]
        assert all(min(ys) - 1e-9 <= y <= max(ys) + 1e-9 for _, y in kept)
    assert [x for x, _ in kept] == sorted(x for x, _ in kept)


@pytest.mark.parametrize(("value", "text"), [(0, "0"), (0.25, "0.25"), (1500, "1500"), (20_000, "20k")])
def test_tick_texts(value, text):
    assert tick_text(value) == text


def test_small_numbers_share_a_power_of_ten():
    root = _drawn(line_chart("rate", [Series("a", [(0, 8e-5), (100, 0.0)])], "iteration", "learning rate"))
    texts = [item.text for item in root.iter("text")]
    assert texts[:5] == ["0", "2", "4", "6", "8"]
    assert texts[-1] == "learning rate (\N{MULTIPLICATION SIGN}10⁻⁵)"
