"""Masks as text for other programs, with numpy alone: run lengths as COCO writes them, and polygons.

`data/masks.py` does the same through pycocotools; a service that predicts with an exported model goes without it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sskd_core.data.records import Rle

Point = tuple[int, int]


def encode_rle(mask: NDArray[np.bool_]) -> Rle:
    """Encode a mask [height, width] as COCO's compressed run lengths: column by column, the first run outside."""
    flat = np.concatenate([[False], mask.flatten(order="F")])
    changes = np.flatnonzero(flat[1:] != flat[:-1])
    runs = np.diff(np.concatenate([[0], changes, [mask.size]]))
    return Rle(size=[int(side) for side in mask.shape], counts=_compress(runs.tolist()))


def mask_polygons(mask: NDArray[np.bool_]) -> list[list[float]]:
    """Return the outlines of a mask [height, width], one a connected part, along the edges of its pixels.

    Parts that touch at a corner are apart. Holes are left out, as COCO's polygons have none; the run lengths are exact.

    Returns:
        Each x0, y0, x1, y1, ... in pixels, clockwise as seen, corners only.
    """
    onward = _edges(mask)
    outlines = []
    while onward:
        loop = _follow(onward)
        if _doubled_area(loop) > 0:
            outlines.append([float(value) for point in _corners(loop) for value in point])
    return outlines


def _compress(runs: list[int]) -> str:
    """Write runs as base-32 digits; `data.masks.run_lengths` describes the scheme and reads it."""
    text = []
    for index, run in enumerate(runs):
        value = run - runs[index - 2] if index > 2 else run
        more = True
        while more:
            digit = value & 31
            value >>= 5
            more = value != (-1 if digit & 16 else 0)
            text.append(chr(digit + 32 * more + 48))
    return "".join(text)


def _edges(mask: NDArray[np.bool_]) -> dict[Point, list[Point]]:
    """Return the pixel edges between inside and outside: start -> ends, with the inside on the right hand."""
    padded = np.pad(mask, 1)
    inside = padded[1:-1, 1:-1]
    onward: dict[Point, list[Point]] = {}
    for outside, start, end in (
        (padded[:-2, 1:-1], (0, 0), (1, 0)),  # above: to the right
        (padded[1:-1, 2:], (1, 0), (1, 1)),  # right: down
        (padded[2:, 1:-1], (1, 1), (0, 1)),  # below: to the left
        (padded[1:-1, :-2], (0, 1), (0, 0)),  # left: up
    ):
        for y, x in np.argwhere(inside & ~outside).tolist():
            onward.setdefault((x + start[0], y + start[1]), []).append((x + end[0], y + end[1]))
    return onward


def _follow(onward: dict[Point, list[Point]]) -> list[Point]:
    """Take one closed loop out of the edges; where two paths cross, the right turn keeps to the same pixel."""
    first = next(iter(onward))
    loop, here, step = [first], first, (0, 0)
    while True:
        ends = onward[here]
        right = (here[0] - step[1], here[1] + step[0])
        end = right if len(ends) > 1 and right in ends else ends[0]
        ends.remove(end)
        if not ends:
            del onward[here]
        step, here = (end[0] - here[0], end[1] - here[1]), end
        if here == first:
            return loop
        loop.append(here)


def _doubled_area(loop: list[Point]) -> int:
    """Return twice the enclosed area, positive for an outline and negative for a hole (shoelace formula)."""
    return sum(x * v - u * y for (x, y), (u, v) in zip(loop, [*loop[1:], loop[0]], strict=True))


def _corners(loop: list[Point]) -> list[Point]:
    """Drop the points at which the path goes straight on."""
    around = zip([loop[-1], *loop[:-1]], loop, [*loop[1:], loop[0]], strict=True)
    return [here for before, here, after in around if before[0] != after[0] and before[1] != after[1]]
