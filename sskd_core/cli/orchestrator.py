"""Asking the pipelines: a child process, because the library knows no orchestrator and only `pipelines` imports kfp."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sskd_core.errors import SskdError, UserError

if TYPE_CHECKING:
    from sskd_core.config.experiment import ExperimentConfig

_USER_ERROR = 2


class PipelinesFailed(SskdError):
    """The child ended through a defect."""


def ask_pipelines(arguments: Sequence[str]) -> str:
    """Run `python -m pipelines` and return what it printed.

    Args:
        arguments: of the command.

    Raises:
        UserError: with the child's own line.
        PipelinesFailed: a defect; carries the last line of its traceback.
    """
    # A folder of the user's that happens to be called 'pipelines' must not be imported instead of ours.
    environment = os.environ | {"PYTHONSAFEPATH": "1"}
    command = [sys.executable, "-m", "pipelines", *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode == 0:
        return done.stdout
    line = (done.stderr.strip().splitlines() or ["no message"])[-1]
    if done.returncode == _USER_ERROR:
        raise UserError(line)
    raise PipelinesFailed(f"python -m pipelines {arguments[0]}: {line}")


def start_run(experiment: ExperimentConfig, words: Sequence[str]) -> Any:
    """Start a run of an experiment on a KFP server.

    Args:
        experiment: complete.
        words: further options of `python -m pipelines submit`, see `given`.

    Returns:
        What the child answers: id, name and link of the run.

    Raises:
        UserError: with the child's own line.
        PipelinesFailed: a defect.
    """
    with experiment_file(experiment) as path:
        return json.loads(ask_pipelines(["submit", "--experiment", path, *words]))


@contextmanager
def experiment_file(experiment: ExperimentConfig) -> Iterator[str]:
    """Hand an experiment to the child as a file."""
    with tempfile.TemporaryDirectory(prefix="sskd-") as folder:
        path = Path(folder) / "experiment.json"
        path.write_text(experiment.model_dump_json(), encoding="utf-8")
        yield str(path)


def given(**options: object) -> list[str]:
    """Return the options that have a value, spelled as the child wants them."""
    words: list[str] = []
    for name, value in options.items():
        option = f"--{name.replace('_', '-')}"
        if value is True:
            words.append(option)
        elif value not in (None, False):
            words += [option, str(value)]
    return words
