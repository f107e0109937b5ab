"""The lineage of a run as a picture: a row a node in pipeline order, and an arc from each manifest to its readers.

Arcs follow what the manifests say they read, digest by digest; what is not there yet is dashed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from markupsafe import Markup

from sskd_core.config.graph import Node
from sskd_core.reporting.graph import Edge, Row, draw_graph
from sskd_core.reporting.words import short_digest
from sskd_core.storage.manifest import Manifest


def edges(manifests: Mapping[str, Manifest], nodes: Sequence[Node]) -> list[Edge]:
    """Return who read whose manifest; of nodes that left none, who would.

    Args:
        manifests: by node.
        nodes: of the method's graph.
    """
    owners = {manifest.digest: node for node, manifest in manifests.items()}
    found: list[Edge] = []
    for node in nodes:
        if node.name in manifests:
            sources = {owners.get(item.digest) for item in manifests[node.name].inputs.values()}
        else:
            sources = set(node.inputs.values())
        found += [Edge(other.name, node.name, node.name in manifests) for other in nodes if other.name in sources]
    return found


def lineage_picture(manifests: Mapping[str, Manifest], nodes: Sequence[Node]) -> Markup:
    """Draw the lineage.

    Args:
        manifests: by node.
        nodes: of the method's graph.
    """
    drawn = edges(manifests, nodes)
    return draw_graph([_row(node.name, manifests.get(node.name)) for node in nodes], drawn, _description(drawn, nodes))


def _row(name: str, manifest: Manifest | None) -> Row:
    if manifest is None:
        return Row(name, name, "not finished", f"{name}: not finished", done=False)
    return Row(name, name, short_digest(manifest.digest), manifest.uri)


def _description(drawn: Sequence[Edge], nodes: Sequence[Node]) -> str:
    readings = "; ".join(
        f"{node.name} reads {', '.join(edge.source for edge in drawn if edge.target == node.name)}"
        for node in nodes
        if any(edge.target == node.name for edge in drawn)
    )
    return f"Lineage of the run: {readings}"
