"""`sskd compile`: the pipeline as YAML for a KFP server."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from sskd_core.cli.options import AllowTag, Cluster, Image, Json, Overrides


def compile_(
    experiment: Annotated[
        str | None, typer.Argument(metavar="[EXPERIMENT]", help="Fill in the form from this YAML file or preset.")
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="YAML file to write.")] = Path("sskd.yaml"),
    cluster: Cluster = None,
    image: Image = None,
    allow_tag: AllowTag = False,
    overrides: Overrides = None,
    as_json: Json = False,
) -> None:
    """Compile the pipeline, for the KFP UI to show as a form."""
    from sskd_core.cli.orchestrator import ask_pipelines, experiment_file, given
    from sskd_core.cli.output import print_json
    from sskd_core.config.loading import load_experiment
    from sskd_core.errors import ConfigError, UserError

    if experiment is None and overrides:
        raise ConfigError("--set changes an experiment; name one: sskd compile EXPERIMENT --set …")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write {output}: {error.strerror}; choose another place: --output") from None
    loaded = None if experiment is None else load_experiment(experiment, overrides or [])
    with nullcontext(None) if loaded is None else experiment_file(loaded) as path:
        ask_pipelines(
            ["compile", str(output), *given(experiment=path, cluster=cluster, image=image, allow_tag=allow_tag)]
        )
    if as_json:
        print_json({"pipeline": str(output)})
    else:
        typer.echo(f"{output}: upload it to a KFP server")
