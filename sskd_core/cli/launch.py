"""Running the pipeline as a child process: start it, watch its progress, pass signals on, say how it ended.

The runner and its stages form one process group of their own, so Ctrl-C in the terminal reaches this process alone,
which asks the group to stop. The runner also stops when this process dies: its standard input then closes.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import psutil
from rich.console import Console

from sskd_core.cli.board import Board, NodeState
from sskd_core.cli.live import make_view
from sskd_core.config.experiment import ExperimentConfig
from sskd_core.errors import DataError, Interrupted, SskdError, UserError
from sskd_core.interrupt import stopped_by
from sskd_core.progress import DIRECTORY_VARIABLE
from sskd_core.stages.registry import REPORT
from sskd_core.storage.manifest import Manifest

_POLL_SECONDS = 0.25
_GENTLE_SIGNALS = 2


class StageFailed(SskdError):
    """A stage or the runner broke through a defect; the log has the traceback."""


@dataclass(frozen=True)
class RunFolder:
    """The files of one run.

    Attributes:
        root: of this run alone.
        log: output of the runner and all stages; the newest run of a name and seed keeps it.
    """

    root: Path
    log: Path

    @classmethod
    def create(cls, state_dir: Path, experiment: ExperimentConfig) -> RunFolder:
        """Make the folders."""
        name = f"{experiment.name}-seed{experiment.seed}"
        root = state_dir / "runs" / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
        log = state_dir / "logs" / f"{name}.log"
        for folder in (root / "progress", root / "scratch", log.parent):
            folder.mkdir(parents=True, exist_ok=True)
        (root / "experiment.json").write_text(experiment.model_dump_json(indent=1), encoding="utf-8")
        return cls(root, log)

    @property
    def progress(self) -> Path:
        """Where the stages' progress records go."""
        return self.root / "progress"

    @property
    def manifest(self) -> Path:
        """Where the report's manifest goes."""
        return self.root / "report.json"

    @property
    def scratch(self) -> Path:
        """Temporary files of the runner and the stages; removed at the end."""
        return self.root / "scratch"


def run_pipeline(experiment: ExperimentConfig, state_dir: Path, console: Console) -> Manifest:
    """Run the pipeline and show how it goes.

    Args:
        experiment: complete, see `open_session`.
        state_dir: where logs and records go.
        console: for the view.

    Returns:
        The manifest of the report.

    Raises:
        UserError: a stage refused; the error's lines are the stage's own.
        Interrupted: a signal arrived; finished stages and checkpoints are kept.
        StageFailed: a defect; names the log.
    """
    folder = RunFolder.create(state_dir, experiment)
    board = Board(folder.progress, [*(item.name for item in experiment.nodes), REPORT])
    try:
        with _runner(folder) as process, _Signals(process) as signals, make_view(board, console) as view:
            while process.poll() is None:
                view.refresh()
                if board.faulty():
                    signals.stop_once()
                with suppress(subprocess.TimeoutExpired):
                    process.wait(_POLL_SECONDS)
        _raise_for(process.returncode, board, signals, folder.log)
        return Manifest.model_validate_json(folder.manifest.read_bytes())
    finally:
        shutil.rmtree(folder.scratch, ignore_errors=True)


@contextmanager
def _runner(folder: RunFolder) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "pipelines", "run", str(folder.root / "experiment.json"), "--stop-with-parent"]
    command += ["--pipeline-root", str(folder.root / "kfp"), "--manifest", str(folder.manifest)]
    environment = {
        # A folder of the user's that happens to be called 'pipelines' must not be imported instead of ours.
        "PYTHONSAFEPATH": "1",
        "TMPDIR": str(folder.scratch),
        DIRECTORY_VARIABLE: str(folder.progress),
    }
    with (
        folder.log.open("wb") as log,
        subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=os.environ | environment,
            process_group=0,
        ) as process,
    ):
        try:
            yield process
        finally:
            # Whatever is left when the runner broke, or when we leave early, has nobody to report to.
            if process.returncode != 0:
                _send(process, signal.SIGTERM)


class _Signals:
    """Passes SIGINT and SIGTERM on to the process group: twice as a request to stop, then as an order."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.received: signal.Signals | None = None
        self._process = process
        self._count = 0
        self._stopped = False

    def __enter__(self) -> _Signals:
        self._earlier = {number: signal.signal(number, self._on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._earlier.items():
            signal.signal(number, handler)

    def stop_once(self) -> None:
        """Ask all but the report to stop because a stage broke; what still runs saves its state."""
        if not self._stopped:
            self._stopped = True
            with suppress(psutil.NoSuchProcess):
                runner = psutil.Process(self._process.pid)
                for process in [runner, *runner.children()]:
                    with suppress(psutil.NoSuchProcess):
                        if REPORT not in process.cmdline():
                            process.terminate()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.received = signal.Signals(number)
        self._count += 1
        _send(self._process, signal.SIGTERM if self._count <= _GENTLE_SIGNALS else signal.SIGKILL)


def _send(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def _raise_for(code: int, board: Board, signals: _Signals, log: Path) -> None:
    """Raise what stands for the exit code, if it is not 0."""
    if code == 0:
        return
    broken = board.faulty()
    if broken is not None:
        raise _fault(broken, log)
    if signals.received is not None:
        raise stopped_by(signals.received)
    stopped = next((state for state in board.nodes.values() if state.status == "interrupted"), None)
    if stopped is not None:
        raise Interrupted(f"stage {stopped.name}: {stopped.detail}")
    silent = next((state.name for state in board.nodes.values() if state.status == "running"), "runner")
    raise StageFailed(f"stage {silent} ended without a word (killed, perhaps for lack of memory); its output: {log}")


def _fault(state: NodeState, log: Path) -> SskdError:
    if state.status == "failed":
        return StageFailed(f"stage {state.name} failed: {state.detail}; its output: {log}")
    if len(state.problems) > 1:
        return DataError([*state.problems, f"stage {state.name} refused; its output: {log}"])
    return UserError(f"stage {state.name}: {state.detail}")
