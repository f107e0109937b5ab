"""A page about one registered version: the graph from the model back to the images, and what each stage was told.

Like the report it asks nobody for anything: no script, no font, no link that loads.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from sskd_core.reporting.graph import Edge, Row, draw_graph
from sskd_core.reporting.html import environment
from sskd_core.reporting.words import short_digest
from sskd_core.tracking.lineage import Lineage, Step


def render_lineage(lineage: Lineage) -> str:
    """Render the page.

    Args:
        lineage: of the version.
    """
    steps = oldest_first(lineage.steps)
    names = {step.digest: step.stage for step in steps}
    edges = [Edge(source, step.digest, True) for step in steps for source in dict.fromkeys(step.inputs.values())]
    rows = [Row(step.digest, step.stage, short_digest(step.digest), step.uri) for step in steps]
    label = "; ".join(f"{edge_target} reads {sources}" for edge_target, sources in _readings(steps, names))
    return (
        environment()
        .get_template("lineage.html.j2")
        .render(
            lineage=lineage,
            answer=lineage.to_dict(),
            picture=draw_graph(rows, edges, f"Lineage: {label}"),
            steps=steps,
            settings={step.digest: json.dumps(step.config, indent=1, sort_keys=True) for step in steps},
        )
    )


def oldest_first(steps: Sequence[Step]) -> list[Step]:
    """Return the steps so that each comes after those that it read; among equals in the order given."""
    by_digest = {step.digest: step for step in steps}
    placed: dict[str, Step] = {}

    def place(step: Step) -> None:
        for digest in step.inputs.values():
            if digest not in placed:
                place(by_digest[digest])
        placed.setdefault(step.digest, step)

    for step in steps:
        place(step)
    return list(placed.values())


def reading_lines(lineage: Lineage) -> list[str]:
    """Return the graph as text: a line a stage with what it read, from the images to the model."""
    steps = oldest_first(lineage.steps)
    names = {step.digest: f"{step.stage} {short_digest(step.digest)}" for step in steps}
    return [
        f"{names[step.digest]} <- {', '.join(names[item] for item in dict.fromkeys(step.inputs.values())) or 'images'}"
        for step in steps
    ]


def _readings(steps: Sequence[Step], names: dict[str, str]) -> list[tuple[str, str]]:
    return [(step.stage, ", ".join(names[item] for item in step.inputs.values())) for step in steps if step.inputs]
