"""`sskd lineage`: which images, labels, teacher, configuration and code made a registered model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sskd_core.cli.options import DEFAULT_STATE_DIR, Json, Settings, StateDir

if TYPE_CHECKING:
    from sskd_core.tracking.lineage import Lineage


def lineage(
    model: Annotated[str, typer.Argument(help="Alias, number, or models:/NAME@ALIAS.")] = "champion",
    html: Annotated[Path | None, typer.Option("--html", help="Draw the graph into this file.")] = None,
    experiment: Settings = None,
    state_dir: StateDir = DEFAULT_STATE_DIR,
    as_json: Json = False,
) -> None:
    """Trace a registered model back to its images. Every manifest on the way is verified."""
    from sskd_core.cli.output import print_json, write_text
    from sskd_core.cli.registry import open_registry
    from sskd_core.tracking.lineage import version_lineage

    with open_registry(experiment, state_dir.absolute()) as (tracking, store):
        found = version_lineage(tracking, store, model)
    if html is not None:
        from sskd_core.reporting.lineage_page import render_lineage

        write_text(html, render_lineage(found))
    if as_json:
        print_json(found.to_dict())
    else:
        _show(found)


def _show(found: Lineage) -> None:
    from rich.table import Table

    from sskd_core.cli.output import answers as console
    from sskd_core.reporting.lineage_page import reading_lines

    answer = found.to_dict()
    own = f" ({', '.join(found.aliases)})" if found.aliases else ""
    table = Table("what", "which", title=f"{found.name} version {found.version}{own}")
    for images in answer["images"]:
        for split, item in images.items():
            table.add_row(f"images: {split}", f"{item['images']} in {item['index']}")
    for labels in answer["labels"]:
        table.add_row("pseudo-labels", f"{labels['instances']} in {labels['shards']}")
    for teacher in answer["teachers"]:
        table.add_row("teacher", f"{teacher['family']} from {teacher['weights']}, licence {teacher['licence']}")
    for code in answer["code"]:
        table.add_row("code", code)
    for step in answer["runs"]:
        table.add_row(f"stage: {step['stage']}", step["manifest"])
    table.add_row("licences", ", ".join(answer["licences"]) or "none")
    console().print(table)
    for line in reading_lines(found):
        console().print(line, markup=False, soft_wrap=True)
