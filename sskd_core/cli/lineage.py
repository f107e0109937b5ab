"""`sskd lineage`: which images, labels, teacher, configuration and code made a registered model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from sskd_core.cli.options import DEFAULT_STATE_DIR, Json, Settings, StateDir

if TYPE_CHECKING:
    from sskd_core.tracking.lineage import Lineage


def lineage(
    alias: Annotated[str, typer.Argument(help="Alias in the registry.")] = "champion",
    experiment: Settings = None,
    state_dir: StateDir = DEFAULT_STATE_DIR,
    as_json: Json = False,
) -> None:
    """Trace a registered model back to its images. Every manifest on the way is verified."""
    from sskd_core.cli.output import print_json
    from sskd_core.cli.session import open_storage, resolve_tracking, settings_of
    from sskd_core.storage.store import ObjectStore
    from sskd_core.tracking.lineage import champion_lineage

    storage, tracking = settings_of(experiment)
    state_dir = state_dir.absolute()
    with open_storage(storage, state_dir) as opened:
        found = champion_lineage(resolve_tracking(tracking, state_dir), ObjectStore(opened), alias)
    if as_json:
        print_json(found.to_dict())
    else:
        _show(found)


def _show(found: Lineage) -> None:
    from rich.table import Table

    from sskd_core.cli.output import answers as console

    answer = found.to_dict()
    table = Table("what", "which", title=f"{found.name} version {found.version} ({found.alias})")
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
