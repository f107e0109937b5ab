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


def with_seed(overrides: list[str] | None, seed: int | None) -> list[str]:
    """Return the overrides with the seed as the last one."""
    return [*(overrides or []), *([] if seed is None else [f"seed={seed}"])]
