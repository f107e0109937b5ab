"""`sskd models`: the registered models, what became of them, and who is champion."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sskd_core.cli.lineage import lineage
from sskd_core.cli.options import DEFAULT_STATE_DIR, Json, Settings, StateDir

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

    from sskd_core.tracking.promotion import Outcome

app = typer.Typer(help="Registered models: look, promote, roll back.", no_args_is_help=True)
app.command("lineage")(lineage)

Model = Annotated[str, typer.Argument(help="Alias, number, or models:/NAME@ALIAS.")]
Reason = Annotated[str | None, typer.Option("--reason", help="Why; kept with the decision.")]


@app.command("list")
def list_models(experiment: Settings = None, state_dir: StateDir = DEFAULT_STATE_DIR, as_json: Json = False) -> None:
    """List the versions, the newest first."""
    from rich.table import Table

    from sskd_core.cli.output import answers, print_json
    from sskd_core.cli.registry import open_registry
    from sskd_core.tracking.client import connect
    from sskd_core.tracking.registry import aliases, all_versions, refusals

    with open_registry(experiment, state_dir.absolute()) as (tracking, store), refusals("list the versions"):
        client = connect(tracking, store.config)
        name = tracking.registered_model
        rows = [_described(item, aliases(client, name)) for item in all_versions(client, name)]
    if as_json:
        print_json({"model": name, "versions": rows})
        return
    table = Table("version", "aliases", "verdict", "mask AP", "family", "licences", title=name)
    for row in rows:
        found = row["mask_ap"]
        shown = "" if found is None else f"{found:.1f} on {row['split']}"
        table.add_row(row["version"], ", ".join(row["aliases"]), row["verdict"], shown, row["family"], row["licences"])
    answers().print(table if rows else f"model '{name}' has no versions yet")


@app.command()
def show(
    model: Model = "champion",
    experiment: Settings = None,
    state_dir: StateDir = DEFAULT_STATE_DIR,
    as_json: Json = False,
) -> None:
    """Show a version: what it is, and the record of its gate."""
    from rich.table import Table

    from sskd_core.cli.output import answers, print_json
    from sskd_core.cli.registry import open_registry
    from sskd_core.tracking.client import connect
    from sskd_core.tracking.registry import aliases, refusals, resolve

    with open_registry(experiment, state_dir.absolute()) as (tracking, store), refusals("read the version"):
        client = connect(tracking, store.config)
        found = resolve(client, tracking.registered_model, model)
        answer = _described(found, aliases(client, found.name)) | {"tags": dict(found.tags), "source": found.source}
    if as_json:
        print_json(answer)
        return
    table = Table("what", "which", title=f"{found.name} version {found.version}")
    for key in ("aliases", "verdict", "mask_ap", "split", "evaluator", "family", "classes", "licences"):
        value = answer[key]
        table.add_row(key.replace("_", " "), ", ".join(value) if isinstance(value, list) else str(value or ""))
    for key, value in sorted(answer["tags"].items()):
        if key.startswith("sskd.manifest.") or key in ("sskd.onnx", "sskd.forced_because"):
            table.add_row(key.removeprefix("sskd."), value)
    answers().print(table)
    _print_gate(answer["gate"])


@app.command()
def promote(
    model: Model = "challenger",
    policy: Annotated[
        Path | None, typer.Option("--policy", help="YAML file of the gate; default: that of the version's own run.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Against the gate; needs --reason.")] = False,
    reason: Reason = None,
    experiment: Settings = None,
    state_dir: StateDir = DEFAULT_STATE_DIR,
    as_json: Json = False,
) -> None:
    """Make a version champion if the gate agrees; exit code 2 if it does not."""
    from sskd_core.cli.registry import open_registry
    from sskd_core.errors import UserError
    from sskd_core.tracking.client import connect
    from sskd_core.tracking.policy import policy_of
    from sskd_core.tracking.promotion import Promotion
    from sskd_core.tracking.registry import resolve

    if force is not bool(reason):
        raise UserError("--force and --reason go together: a decision against the gate is recorded with its reason")
    with open_registry(experiment, state_dir.absolute()) as (tracking, store):
        client = connect(tracking, store.config)
        version = resolve(client, tracking.registered_model, model)
        outcome = Promotion(client, store, version.name).promote(version, policy_of(version, policy, store), reason)
    _tell(outcome, version.name, as_json)
    if outcome.status == "refused":
        raise typer.Exit(2)


@app.command()
def rollback(
    reason: Reason = None, experiment: Settings = None, state_dir: StateDir = DEFAULT_STATE_DIR, as_json: Json = False
) -> None:
    """Give the alias champion back to the version that had it before."""
    from sskd_core.cli.registry import open_registry
    from sskd_core.tracking.client import connect
    from sskd_core.tracking.promotion import Promotion

    with open_registry(experiment, state_dir.absolute()) as (tracking, store):
        name = tracking.registered_model
        outcome = Promotion(connect(tracking, store.config), store, name).rollback(reason)
    _tell(outcome, name, as_json)


@app.command()
def diff(
    first: Model = "champion",
    second: Annotated[str, typer.Argument(help="The other version.")] = "challenger",
    experiment: Settings = None,
    state_dir: StateDir = DEFAULT_STATE_DIR,
    as_json: Json = False,
) -> None:
    """Show what sets two versions apart: figures, images, labels, settings, code, licences."""
    from rich.table import Table

    from sskd_core.cli.output import answers, print_json
    from sskd_core.cli.registry import open_registry
    from sskd_core.tracking.diff import difference
    from sskd_core.tracking.lineage import version_lineage

    with open_registry(experiment, state_dir.absolute()) as (tracking, store):
        answer = difference(*(version_lineage(tracking, store, item) for item in (first, second)))
    if as_json:
        print_json(answer)
        return
    table = Table("what", answer["first"], answer["second"])
    for section, items in answer.items():
        if isinstance(items, dict):
            for name, pair in items.items():
                table.add_row(f"{section}: {name}", *("" if value is None else str(value) for value in pair))
    answers().print(table)


def _described(version: ModelVersion, aliases: dict[str, str]) -> dict[str, Any]:
    """Return what the tags of a version say; one of another tool says nothing."""
    tags = version.tags
    number = str(version.version)
    return {
        "version": number,
        "aliases": sorted(alias for alias, holder in aliases.items() if holder == number),
        "verdict": tags.get("sskd.verdict", ""),
        "mask_ap": float(tags["sskd.mask_ap"]) if "sskd.mask_ap" in tags else None,
        "split": tags.get("sskd.split", ""),
        "evaluator": tags.get("sskd.evaluator", ""),
        "family": tags.get("sskd.family", ""),
        "classes": json.loads(tags.get("sskd.classes", "[]")),
        "licences": tags.get("sskd.licences", ""),
        "gate": json.loads(tags["sskd.gate"]) if "sskd.gate" in tags else None,
    }


def _tell(outcome: Outcome, name: str, as_json: bool) -> None:
    from dataclasses import asdict

    from sskd_core.cli.output import print_json

    if as_json:
        print_json(asdict(outcome))
        return
    _print_gate(outcome.gate)
    before = f", version {outcome.previous} is previous" if outcome.previous is not None else ""
    typer.echo(f"{outcome.status}: version {outcome.champion or 'none'} of {name} is champion{before}")


def _print_gate(gate: dict[str, Any] | None) -> None:
    from rich.table import Table

    from sskd_core.cli.output import answers

    if gate is None:
        return
    table = Table("rule", "verdict", "why", title="Gate")
    for rule in gate["rules"]:
        table.add_row(rule["name"], rule["verdict"], rule["reason"])
    answers().print(table)
