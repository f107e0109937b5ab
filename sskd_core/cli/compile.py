"""`sskd compile`: the pipeline as YAML for a KFP server."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sskd_core.cli.options import Json


def compile_(
    output: Annotated[Path, typer.Option("--output", "-o", help="YAML file to write.")] = Path("sskd.yaml"),
    image: Annotated[
        str | None, typer.Option(envvar="SSKD_IMAGE", help="Container image of the stages, best by digest.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Compile the pipeline. Its parameters: `experiment`, which `describe --json` prints, and `label_workers`."""
    import os
    import subprocess
    import sys

    from sskd_core.cli.output import print_json
    from sskd_core.errors import UserError

    environment = os.environ | {"PYTHONSAFEPATH": "1"} | ({"SSKD_IMAGE": image} if image else {})
    # A child, because the library knows no orchestrator: only `pipelines` imports kfp.
    done = subprocess.run(
        [sys.executable, "-m", "pipelines", "compile", str(output)], env=environment, capture_output=True, text=True
    )
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or ["no message"]
        raise UserError(f"cannot compile to {output}: {lines[-1]}")
    if as_json:
        print_json({"pipeline": str(output)})
    else:
        typer.echo(f"{output}: upload it to a KFP server")
