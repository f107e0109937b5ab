"""`sskd stage`: one node by hand, from manifests to a manifest."""

from __future__ import annotations

from typing import Annotated

import typer

from sskd_core.cli.options import DEFAULT_STATE_DIR, Json, Overrides, Seed, StateDir, with_seed

Inputs = Annotated[
    list[str] | None,
    typer.Option("--input", "-i", metavar="NAME=URI", help="Manifest of an input, e.g. data=s3://…/manifest.json."),
]


def stage(
    name: Annotated[str, typer.Argument(help="Node of the pipeline, e.g. distill.")],
    experiment: Annotated[str, typer.Option("--experiment", "-e", help="YAML file, or the name of a preset.")],
    inputs: Inputs = None,
    worker: Annotated[
        int | None, typer.Option(min=0, help="Labelling worker; without it labels are collected.")
    ] = None,
    overrides: Overrides = None,
    seed: Seed = None,
    state_dir: StateDir = DEFAULT_STATE_DIR,
    as_json: Json = False,
) -> None:
    """Run one stage here and print where its manifest is."""
    import logging

    from sskd_core.cli.output import print_json
    from sskd_core.cli.session import open_session
    from sskd_core.config.loading import load_experiment
    from sskd_core.distributed.launch import follows
    from sskd_core.stages.configure import pinned
    from sskd_core.stages.entry import run_node
    from sskd_core.storage.store import ObjectStore

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    wanted = _parse_inputs(inputs or [])
    with open_session(load_experiment(experiment, with_seed(overrides, seed)), state_dir.absolute()) as complete:
        store = ObjectStore(complete.storage)
        manifests = {key: store.manifest(uri) for key, uri in wanted.items()}
        manifest = run_node(pinned(complete, store), name, manifests, worker)
    if follows():
        return
    if as_json:
        print_json(manifest.model_dump(mode="json"))
    else:
        typer.echo(manifest.uri)


def _parse_inputs(items: list[str]) -> dict[str, str]:
    from sskd_core.errors import ConfigError

    parsed: dict[str, str] = {}
    for item in items:
        name, separator, uri = item.partition("=")
        if not separator or not name or not uri:
            raise ConfigError(f"--input {item}: write it as NAME=URI, for instance data=s3://bucket/…/manifest.json")
        parsed[name] = uri
    return parsed
