"""Who read whose result, as a picture: a row a result, and an arc from each to its readers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from sskd_core.reporting.svg import Element, add, markup, picture

_ROW, _BOX_HEIGHT, _BOX_WIDTH = 38.0, 28.0, 250.0
_MARGIN = 6.0
_FIRST_BEND, _BEND = 16.0, 15.0
_ARROW = 6.0


@dataclass(frozen=True)
class Row:
    """One result.

    Attributes:
        key: unique in the picture.
        name: what it is called.
        detail: short text at the other end of its box.
        title: shown when a pointer rests on it.
        done: whether it is there.
    """

    key: str
    name: str
    detail: str
    title: str
    done: bool = True


@dataclass(frozen=True)
class Edge:
    """One reading.

    Attributes:
        source: key of what was read.
        target: key of its reader.
        done: whether the target's manifest names the digest of the source's.
    """

    source: str
    target: str
    done: bool


def draw_graph(rows: Sequence[Row], edges: Sequence[Edge], label: str) -> Markup:
    """Draw the rows from top to bottom.

    Args:
        rows: each after those that it read.
        edges: between them.
        label: what a screen reader says instead.
    """
    places = {row.key: number for number, row in enumerate(rows)}
    bends = {edge: _FIRST_BEND + _BEND * (places[edge.target] - places[edge.source]) for edge in edges}
    left = 0.75 * max(bends.values(), default=0.0) + _MARGIN
    root = picture(left + _BOX_WIDTH + _MARGIN, _ROW * len(rows), label, "lineage")
    hub = _hub(edges, len(rows))
    # The arcs of the one that nearly all others read lie below the few that tell the story.
    for edge in sorted(edges, key=lambda item: item.source != hub):
        kind = "data" if edge.source == hub else "made"
        style = f"arc {kind}" if edge.done else "arc pending"
        _arc(root, style, left, _middle(places[edge.source]), _middle(places[edge.target]), bends[edge])
    for row in rows:
        _box(root, row, left, _middle(places[row.key]))
    return markup(root)


def _hub(edges: Sequence[Edge], rows: int) -> str | None:
    readers = Counter(edge.source for edge in edges)
    return next((key for key, count in readers.items() if count > rows // 2), None)


def _middle(row: int) -> float:
    return _ROW * (row + 0.5)


def _arc(root: Element, style: str, x: float, top: float, bottom: float, bend: float) -> None:
    end = x - _ARROW
    path = f"M{x:g} {top:g}C{x - bend:g} {top:g} {end - bend:g} {bottom:g} {end:g} {bottom:g}"
    add(root, "path", style, d=path)
    add(root, "path", f"tip {style}", d=f"M{x:g} {bottom:g}l{-_ARROW - 1:g} -3.5v7z")


def _box(root: Element, row: Row, x: float, middle: float) -> None:
    group = add(root, "g", "node" if row.done else "node pending")
    add(group, "title", "", row.title)
    add(group, "rect", "box", x=x, y=middle - _BOX_HEIGHT / 2, width=_BOX_WIDTH, height=_BOX_HEIGHT, rx=7)
    add(group, "text", "name", row.name, x=x + 12, y=middle + 4.5)
    add(group, "text", "digest", row.detail, x=x + _BOX_WIDTH - 12, y=middle + 4, text_anchor="end")
