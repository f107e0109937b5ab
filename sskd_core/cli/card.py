"""`sskd card`: the model card of a registered version."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sskd_core.cli.options import DEFAULT_STATE_DIR, Settings, StateDir


def card(
    model: Annotated[str, typer.Argument(help="Alias, number, or models:/NAME@ALIAS.")] = "champion",
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Folder for all its files.")] = None,
    experiment: Settings = None,
    state_dir: StateDir = DEFAULT_STATE_DIR,
) -> None:
    """Print the card of a registered model as Markdown, or write it with page and pictures into a folder."""
    from sskd_core.cli.registry import open_registry
    from sskd_core.stages.register import CARD, read_manifest
    from sskd_core.tracking.client import connect
    from sskd_core.tracking.registry import resolve

    with open_registry(experiment, state_dir.absolute()) as (tracking, store):
        version = resolve(connect(tracking, store.config), tracking.registered_model, model)
        manifest = read_manifest(version.source, store)
        if output is None:
            typer.echo(store.read(manifest.output(f"{CARD}card.md")).decode())
            return
        for ref in manifest.outputs_like(CARD):
            _write(output / ref.name.removeprefix(CARD), store.read(ref))
    typer.echo(f"card of version {version.version} is in {output}: card.md, card.html")


def _write(path: Path, data: bytes) -> None:
    from sskd_core.errors import UserError

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}; choose another folder with -o") from None
