"""Starting a training in several processes of this machine, and what their endings mean.

The processes are those of `torchrun`, started as anybody would start them. This process waits, passes a signal on, and
says in one line what went wrong. It never imports torch.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from sskd_core.errors import Interrupted, SskdError, UserError
from sskd_core.interrupt import StopSignal

TASK_VARIABLE = "SSKD_TASK"
"""What the processes do, as JSON."""
ENDINGS_VARIABLE = "SSKD_ENDINGS"
"""Folder in which each process leaves how it ended."""
FIRST_FAILURE = "first"
REFUSED, FAILED = 2, 1
_INTERRUPTED = (128 + signal.SIGTERM, 128 + signal.SIGINT)
_SHUTDOWN_SECONDS = "60"
_WAIT_SECONDS = 0.2


@dataclass(frozen=True)
class Ending:
    """How a process ended.

    Attributes:
        rank: its number.
        code: its exit code; negative, the signal that killed it.
        line: what it had to say.
    """

    rank: int
    code: int
    line: str = ""


def started_by_torchrun(environment: Mapping[str, str] = os.environ) -> bool:
    """Return whether this process is one of several of a training, by torchrun's variables."""
    return int(environment.get("WORLD_SIZE") or 1) > 1 and "RANK" in environment


def follows(environment: Mapping[str, str] = os.environ) -> bool:
    """Return whether it is one of several and not the first of them."""
    return started_by_torchrun(environment) and environment["RANK"] != "0"


def leave_ending(ending: Ending, name: str | None = None) -> None:
    """Write down how a process ended, where the one that started it looks."""
    folder = os.environ.get(ENDINGS_VARIABLE)
    if folder is not None:
        text = json.dumps(asdict(ending))
        (Path(folder) / f"{name or ending.rank}.json").write_text(text, encoding="utf-8")


def run_processes(count: int, module: str, task: str) -> None:
    """Run a module in `count` processes of this machine until all of them have ended.

    When one dies, torchrun stops the others; a process that does not react to that is killed after a minute.

    Args:
        count: how many.
        module: what each runs, as `python -m` would.
        task: for `SSKD_TASK`.

    Raises:
        UserError: one of them refused, or died; one line.
        Interrupted: SIGTERM or SIGINT arrived here or there; the state is saved.
    """
    arguments = ["--standalone", "--local-addr=127.0.0.1", f"--nproc-per-node={count}", "-m", module]
    with TemporaryDirectory(prefix="sskd-") as folder:
        environment = {
            # All of them are here, and a machine's own name need not lead to it.
            "GLOO_SOCKET_IFNAME": "lo",
            "TORCH_ELASTIC_SHUTDOWN_TIMEOUT": _SHUTDOWN_SECONDS,
            "TORCH_CPP_LOG_LEVEL": "ERROR",
            "OMP_NUM_THREADS": "1",
            **os.environ,
            TASK_VARIABLE: task,
            ENDINGS_VARIABLE: folder,
        }
        command = [sys.executable, "-m", "sskd_core.distributed.torchrun", *arguments]
        code = _wait(command, environment)
        if code:
            raise _problem(_endings(Path(folder)), count)


def _wait(command: list[str], environment: Mapping[str, str]) -> int:
    """Run a command to its end and return its exit code.

    It has a session of its own, so that a signal to this process's group reaches it once, through this process; and a
    pipe from here, by whose end it knows that this process is gone.
    """
    with (
        StopSignal() as stop,
        subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, start_new_session=True) as process,
    ):
        told = False
        try:
            while True:
                try:
                    code = process.wait(_WAIT_SECONDS)
                    break
                except subprocess.TimeoutExpired:
                    if stop.is_set and not told:
                        told = True
                        process.terminate()
        except BaseException:
            process.terminate()
            raise
        if code:
            stop.check()
    return code


def _endings(folder: Path) -> dict[str, Ending]:
    return {path.stem: Ending(**json.loads(path.read_text(encoding="utf-8"))) for path in folder.glob("*.json")}


def _problem(endings: Mapping[str, Ending], count: int) -> SskdError:
    """Return the error that the endings of some processes amount to."""
    first = endings.get(FIRST_FAILURE, Ending(0, FAILED))
    told = sorted((ending for name, ending in endings.items() if name != FIRST_FAILURE), key=lambda item: item.rank)
    for ending in told:
        if ending.code == REFUSED:
            return UserError(ending.line)
    interrupted = [ending for ending in told if ending.code in _INTERRUPTED]
    if interrupted and not any(ending.code == FAILED for ending in told) and first.code > 0:
        return Interrupted(interrupted[0].line, interrupted[0].code - 128)
    line = next((ending.line for ending in told if ending.rank == first.rank), "")
    if first.code < 0:
        how = f"was killed by {signal.Signals(-first.code).name}"
    else:
        how = f"failed: {line}" if line else f"ended with exit code {first.code}"
    return UserError(
        f"process {first.rank} of {count} {how}; the others were stopped; "
        "run the same command again to go on from the last checkpoint"
    )
