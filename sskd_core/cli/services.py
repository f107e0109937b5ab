"""`sskd services`: the embedded object store, kept running between commands."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from sskd_core.cli.options import DEFAULT_STATE_DIR, Json, StateDir

if TYPE_CHECKING:
    from sskd_core.services.state import ServiceState

app = typer.Typer(help="The embedded services, kept running between commands.", no_args_is_help=True)


@app.command()
def up(state_dir: StateDir = DEFAULT_STATE_DIR, as_json: Json = False) -> None:
    """Start the embedded object store; it stays until `down`."""
    from sskd_core.services.embedded import up as start

    _show(start(state_dir), state_dir, as_json)


@app.command()
def down(state_dir: StateDir = DEFAULT_STATE_DIR, as_json: Json = False) -> None:
    """Stop the embedded object store; its data stays."""
    from sskd_core.cli.output import print_json
    from sskd_core.services.embedded import down as stop

    stopped = stop(state_dir)
    if as_json:
        print_json({"stopped": stopped})
    else:
        typer.echo("stopped" if stopped else "was not running")


@app.command()
def status(state_dir: StateDir = DEFAULT_STATE_DIR, as_json: Json = False) -> None:
    """Say whether the embedded object store runs, and where."""
    from sskd_core.services.embedded import status as look

    _show(look(state_dir), state_dir, as_json)


def _show(state: ServiceState | None, state_dir: Path, as_json: bool) -> None:
    from sskd_core.cli.output import print_json

    answer = _answer(state, state_dir)
    if as_json:
        print_json(answer)
    elif state is None:
        typer.echo("not running")
    else:
        typer.echo(f"S3 endpoint {answer['endpoint_url']}, root {answer['root']}, process {answer['pid']}")
        typer.echo(f"credentials: {answer['credentials']}")


def _answer(state: ServiceState | None, state_dir: Path) -> dict[str, Any]:
    if state is None:
        return {"running": False}
    storage = state.storage_config()
    return {
        "running": True,
        "pid": state.pid,
        "endpoint_url": storage.endpoint_url,
        "root": storage.root,
        "credentials": str(state_dir.absolute() / "credentials.json"),
        "log": str(state.log),
    }
