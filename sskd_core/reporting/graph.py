"""The lineage of a run as a picture: a box a stage, an arrow where a stage read what another wrote."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

from sskd_core.storage.manifest import Manifest

_BOX_WIDTH, _BOX_HEIGHT = 158, 44
_COLUMN, _ROW = 196, 62


def lineage_graph(manifests: Mapping[str, Manifest]) -> str:
    """Return the graph as SVG.

    Args:
        manifests: by node, in the order of the pipeline. An arrow goes from the node whose manifest's digest an input
            names; inputs that are not among the manifests have none.
    """
    if not manifests:
        return ""
    owners = {manifest.digest: node for node, manifest in manifests.items()}
    parents = {
        node: [owners[item.digest] for item in manifest.inputs.values() if item.digest in owners]
        for node, manifest in manifests.items()
    }
    places = _layout(parents)
    arrows = [_arrow(places[parent], places[node]) for node, above in parents.items() for parent in above]
    boxes = [_box(node, manifests[node], *places[node]) for node in manifests]
    width = max(x for x, _ in places.values()) + _BOX_WIDTH + 8
    height = max(y for _, y in places.values()) + _BOX_HEIGHT + 8
    return (
        f'<svg class="graph" role="img" viewBox="0 0 {width} {height}" aria-label="lineage of the run">'
        "<title>lineage of the run</title>"
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path class="tip" d="M0 0L8 4L0 8z"/></marker></defs>'
        f"{''.join(arrows)}{''.join(boxes)}</svg>"
    )


def _layout(parents: Mapping[str, list[str]]) -> dict[str, tuple[int, int]]:
    """Place each node one column right of its last parent, below the nodes that are already in that column."""
    columns: dict[str, int] = {}
    filled: dict[int, int] = {}
    places: dict[str, tuple[int, int]] = {}
    for node, above in parents.items():
        column = columns[node] = 1 + max((columns[parent] for parent in above), default=-1)
        row = filled.get(column, 0)
        filled[column] = row + 1
        places[node] = (4 + column * _COLUMN, 4 + row * _ROW)
    return places


def _arrow(start: tuple[int, int], end: tuple[int, int]) -> str:
    x1, y1 = start[0] + _BOX_WIDTH, start[1] + _BOX_HEIGHT // 2
    x2, y2 = end[0] - 2, end[1] + _BOX_HEIGHT // 2
    bend = (x2 - x1) // 2
    return f'<path class="edge" marker-end="url(#tip)" d="M{x1} {y1}C{x1 + bend} {y1} {x2 - bend} {y2} {x2} {y2}"/>'


def _box(node: str, manifest: Manifest, x: int, y: int) -> str:
    short = manifest.digest.removeprefix("sha256:")[:12]
    return (
        f'<g><title>{escape(manifest.uri)}</title><rect class="box" x="{x}" y="{y}" width="{_BOX_WIDTH}" '
        f'height="{_BOX_HEIGHT}" rx="7"/><text class="node" x="{x + 10}" y="{y + 18}">{escape(node)}</text>'
        f'<text class="hash" x="{x + 10}" y="{y + 34}">{short}</text></g>'
    )
