"""The lineage of a run as a picture: a row a node in pipeline order, and an arc from each manifest to its readers.

Arcs follow what the manifests say they read, digest by digest; what is not there yet is dashed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from sskd_core.config.experiment import NODES
from sskd_core.reporting.svg import Element, add, markup, picture
from sskd_core.reporting.words import short_digest
from sskd_core.storage.manifest import Manifest

_ROW, _BOX_HEIGHT, _BOX_WIDTH = 38.0, 28.0, 250.0
_MARGIN = 6.0
_FIRST_BEND, _BEND = 16.0, 15.0
_ARROW = 6.0


@dataclass(frozen=True)
class Edge:
    """One reading.

    Attributes:
        source: node whose manifest was read.
        target: node that read it.
        done: whether the target's manifest names the digest of the source's.
    """

    source: str
    target: str
    done: bool


def edges(manifests: Mapping[str, Manifest]) -> list[Edge]:
    """Return who read whose manifest; of nodes that left none, who would.

    Args:
        manifests: by node.
    """
    owners = {manifest.digest: node for node, manifest in manifests.items()}
    found: list[Edge] = []
    for node in NODES:
        if node.name in manifests:
            sources = {owners.get(item.digest) for item in manifests[node.name].inputs.values()}
        else:
            sources = set(node.inputs.values())
        found += [Edge(other.name, node.name, node.name in manifests) for other in NODES if other.name in sources]
    return found


def lineage_picture(manifests: Mapping[str, Manifest]) -> Markup:
    """Draw the lineage.

    Args:
        manifests: by node.
    """
    names = [node.name for node in NODES]
    drawn = edges(manifests)
    hub = _hub(drawn, len(names))
    bends = {edge: _FIRST_BEND + _BEND * (names.index(edge.target) - names.index(edge.source)) for edge in drawn}
    left = 0.75 * max(bends.values()) + _MARGIN
    root = picture(left + _BOX_WIDTH + _MARGIN, _ROW * len(names), _description(drawn), "lineage")
    # The arcs of the node that nearly all others read lie below the few that tell the story.
    for edge in sorted(drawn, key=lambda item: item.source != hub):
        kind = "data" if edge.source == hub else "made"
        style = f"arc {kind}" if edge.done else "arc pending"
        _arc(root, style, left, _middle(names.index(edge.source)), _middle(names.index(edge.target)), bends[edge])
    for row, name in enumerate(names):
        _box(root, name, manifests.get(name), left, _middle(row))
    return markup(root)


def _hub(drawn: Sequence[Edge], nodes: int) -> str | None:
    readers = {edge.source: 0 for edge in drawn}
    for edge in drawn:
        readers[edge.source] += 1
    return next((name for name, count in readers.items() if count > nodes // 2), None)


def _middle(row: int) -> float:
    return _ROW * (row + 0.5)


def _arc(root: Element, style: str, x: float, top: float, bottom: float, bend: float) -> None:
    end = x - _ARROW
    path = f"M{x:g} {top:g}C{x - bend:g} {top:g} {end - bend:g} {bottom:g} {end:g} {bottom:g}"
    add(root, "path", style, d=path)
    add(root, "path", f"tip {style}", d=f"M{x:g} {bottom:g}l{-_ARROW - 1:g} -3.5v7z")


def _box(root: Element, name: str, manifest: Manifest | None, x: float, middle: float) -> None:
    group = add(root, "g", "node" if manifest else "node pending")
    add(group, "title", "", manifest.uri if manifest else f"{name}: not finished")
    add(group, "rect", "box", x=x, y=middle - _BOX_HEIGHT / 2, width=_BOX_WIDTH, height=_BOX_HEIGHT, rx=7)
    add(group, "text", "name", name, x=x + 12, y=middle + 4.5)
    state = short_digest(manifest.digest) if manifest else "not finished"
    add(group, "text", "digest", state, x=x + _BOX_WIDTH - 12, y=middle + 4, text_anchor="end")


def _description(drawn: Sequence[Edge]) -> str:
    readings = "; ".join(
        f"{node.name} reads {', '.join(edge.source for edge in drawn if edge.target == node.name)}"
        for node in NODES
        if any(edge.target == node.name for edge in drawn)
    )
    return f"Lineage of the run: {readings}"
