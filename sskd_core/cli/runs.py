"""`sskd runs`: the runs of a KFP server."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from sskd_core.cli.options import CaFile, Host, Json, Namespace, TokenFile
from sskd_core.cli.orchestrator import ask_pipelines, given
from sskd_core.cli.output import answers, print_json

app = typer.Typer(help="Look at the runs of a KFP server.", no_args_is_help=True)
Run = Annotated[str, typer.Argument(metavar="RUN", help="Id of the run.")]


@app.command("list")
def list_(
    limit: Annotated[int, typer.Option(min=1, max=200, help="Number of runs, newest first.")] = 20,
    host: Host = None,
    namespace: Namespace = None,
    token_file: TokenFile = None,
    ca_file: CaFile = None,
    as_json: Json = False,
) -> None:
    """List the newest runs."""
    server = given(host=host, namespace=namespace, token_file=token_file, ca_file=ca_file)
    found = json.loads(ask_pipelines(["runs", "list", "--limit", str(limit), *server]))
    if as_json:
        print_json({"runs": found})
    else:
        _print_table(["run", "name", "state", "created"], found)


@app.command()
def show(
    run: Run,
    host: Host = None,
    namespace: Namespace = None,
    token_file: TokenFile = None,
    ca_file: CaFile = None,
    as_json: Json = False,
) -> None:
    """Show a run and its tasks."""
    server = given(host=host, namespace=namespace, token_file=token_file, ca_file=ca_file)
    found = json.loads(ask_pipelines(["runs", "show", run, *server]))
    if as_json:
        print_json(found)
        return
    typer.echo(f"{found['name']}  {found['state']}  {found['error'] or ''}".rstrip())
    _print_table(["task", "state", "started", "ended", "error"], found["tasks"])


@app.command()
def logs(
    run: Run,
    task: Annotated[str | None, typer.Option(help="Name of a task, e.g. distill; default: those that failed.")] = None,
    host: Host = None,
    namespace: Namespace = None,
    token_file: TokenFile = None,
    ca_file: CaFile = None,
) -> None:
    """Print what tasks of a run printed."""
    server = given(host=host, namespace=namespace, token_file=token_file, ca_file=ca_file)
    typer.echo(ask_pipelines(["runs", "logs", run, *given(task=task), *server]), nl=False)


def _print_table(columns: list[str], rows: list[dict[str, Any]]) -> None:
    from rich.table import Table

    table = Table(*columns, box=None)
    for row in rows:
        table.add_row(*("" if row[column] is None else str(row[column]) for column in columns))
    answers().print(table)
