"""Options that several commands share, so that they are spelled and described in one place."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

StateDir = Annotated[
    Path, typer.Option("--state-dir", envvar="SSKD_STATE_DIR", help="Folder of embedded services, logs and reports.")
]
DEFAULT_STATE_DIR = Path(".sskd")
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a setting, e.g. stages.distill.iterations=400."),
]
Seed = Annotated[int | None, typer.Option("--seed", min=0, help="Override the experiment's seed.")]
Experiment = Annotated[str, typer.Argument(metavar="EXPERIMENT", help="YAML file, or the name of a preset.")]
Settings = Annotated[
    str | None,
    typer.Option("--experiment", "-e", help="Take store and tracking from this file; default: the embedded ones."),
]

Cluster = Annotated[
    Path | None, typer.Option("--cluster", help="The platform's choices, a YAML file: images, resources, secrets.")
]
Image = Annotated[
    str | None, typer.Option("--image", envvar="SSKD_IMAGE", help="Container image of the stages, NAME@sha256:….")
]
AllowTag = Annotated[bool, typer.Option("--allow-tag", help="Take an image that is not given by digest, for a trial.")]
Host = Annotated[
    str | None, typer.Option("--host", help="URL of the KFP server; default: $SSKD_KFP_HOST, in a pod its own.")
]
Namespace = Annotated[str | None, typer.Option("--namespace", "-n", help="Of the runs, on a server of several users.")]
TokenFile = Annotated[
    Path | None,
    typer.Option("--token-file", help="File with a bearer token; default: $SSKD_KFP_TOKEN, in a pod its own."),
]
KfpExperiment = Annotated[str, typer.Option(help="KFP's experiment that the run belongs to.")]
ServiceAccount = Annotated[str | None, typer.Option(help="Of the run's pods.")]
CaFile = Annotated[Path | None, typer.Option("--ca-file", help="Certificates that the server's is checked with.")]


def with_seed(overrides: list[str] | None, seed: int | None) -> list[str]:
    """Return the overrides with the seed as the last one."""
    return [*(overrides or []), *([] if seed is None else [f"seed={seed}"])]
