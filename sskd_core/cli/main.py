"""The `sskd` command: its subcommands, and what an error becomes.

Exit codes: 0 done, 1 a defect of ours, 2 something that the user can mend, 130 Ctrl-C, 143 SIGTERM. Every subcommand
imports what it needs when it runs, so `sskd --help` answers at once.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import typer

from sskd_core.cli import (
    card,
    describe,
    doctor,
    labels,
    lineage,
    models,
    predict,
    pretrain,
    retrain,
    run,
    runs,
    schema,
    services,
    stage,
    submit,
)
from sskd_core.cli import compile as compile_command
from sskd_core.errors import DataError, Interrupted, SskdError, UserError

_PANELS: dict[str, dict[str, Callable[..., Any]]] = {
    "Run": {
        "demo": run.demo,
        "run": run.run,
        "retrain": retrain.retrain,
        "stage": stage.stage,
        "pretrain": pretrain.pretrain,
    },
    "Look": {
        "describe": describe.describe,
        "schema": schema.schema,
        "doctor": doctor.doctor,
        "predict": predict.predict,
        "lineage": lineage.lineage,
        "card": card.card,
    },
    "Deploy": {"compile": compile_command.compile_, "submit": submit.submit},
}

app = typer.Typer(
    name="sskd",
    help="From a bucket of images, few labelled and many not, to a small segmentation model in production.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
for _panel, _commands in _PANELS.items():
    for _name, _function in _commands.items():
        app.command(_name, rich_help_panel=_panel)(_function)
app.add_typer(labels.app, name="labels", rich_help_panel="Look")
app.add_typer(models.app, name="models", rich_help_panel="Deploy")
app.add_typer(runs.app, name="runs", rich_help_panel="Deploy")
app.add_typer(services.app, name="services", rich_help_panel="Deploy")


def main() -> None:
    """Run the command line and exit with its code."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _on_signal)
    try:
        app()
    except Interrupted as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
    except UserError as error:
        from sskd_core.cli.output import print_problems

        print_problems(error.problems if isinstance(error, DataError) else [str(error)])
        sys.exit(2)
    except SskdError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)


def _on_signal(number: int, frame: FrameType | None) -> None:
    # Not KeyboardInterrupt, which typer would turn into exit code 1; and services that were started are stopped.
    raise Interrupted(f"stopped by {signal.Signals(number).name}", number)
