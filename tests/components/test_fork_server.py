"""A task that a fork server runs cannot tell the difference, and neither can who started it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from components.fork_server import SOCKET_VARIABLE, serving

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks on Linux alone")
COMMAND = [
    *(sys.executable, "-m", "components.execute", "tests.components.forked_task"),
    *("--function_to_execute", "configure", "--executor_input", "{}"),
]
ROOT = Path(__file__).parents[2]
Start = Callable[[], tuple[subprocess.Popen[str], psutil.Process]]


@pytest.fixture
def server() -> Iterator[psutil.Process]:
    with serving():
        (process,) = [item for item in psutil.Process().children() if "components.fork_server" in item.cmdline()]
        yield process
    assert not process.is_running()
    assert SOCKET_VARIABLE not in os.environ


def environment(task: str) -> dict[str, str]:
    return {**os.environ, "TASK": task, "PYTHONPATH": str(ROOT)}


def run(task: str, folder: Path = ROOT, given: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        COMMAND, env=environment(task), cwd=folder, input=given, capture_output=True, text=True, check=False
    )


@pytest.fixture
def start(server: psutil.Process) -> Iterator[Start]:
    """Starts a task that waits: the process that hands it over, and the task's own. What a test leaves is ended."""
    owners: list[subprocess.Popen[str]] = []

    def begin() -> tuple[subprocess.Popen[str], psutil.Process]:
        owner = subprocess.Popen(COMMAND, env=environment("wait"), cwd=ROOT, stdout=subprocess.PIPE, text=True)
        owners.append(owner)
        assert owner.stdout is not None
        return owner, psutil.Process(int(owner.stdout.readline()))

    yield begin
    for owner in owners:
        with owner:  # waits for it and closes its output
            owner.kill()


def told(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(done.stdout)
    return values


def test_a_task_is_given_what_its_owner_was_given(server: psutil.Process, tmp_path: Path):
    done = run("tell", tmp_path, "from standard input")
    assert (done.returncode, done.stderr) == (0, "told on standard error\n")
    values = told(done)
    assert values["parent"] == server.pid
    assert values["folder"] == str(tmp_path)
    assert values["input"] == "from standard input"
    assert values["arguments"][-2:] == ["--executor_input", "{}"]
    assert "kfp" in values["modules"]


def test_without_a_server_a_task_runs_where_it_was_started(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    assert told(run("tell"))["parent"] == os.getpid()
    monkeypatch.setenv(SOCKET_VARIABLE, str(tmp_path / "nobody"))
    assert told(run("tell"))["parent"] == os.getpid()


@pytest.mark.parametrize(("task", "code"), [("0", 0), ("2", 2), ("143", 143), ("die", 128 + signal.SIGKILL)])
def test_the_exit_code_is_the_task_s(server: psutil.Process, task: str, code: int):
    assert run(task).returncode == code


def test_tasks_run_beside_each_other(start: Start):
    waiting = [start() for _ in range(2)]
    assert run("2").returncode == 2
    for owner, _ in waiting:
        owner.terminate()
        assert owner.wait() == 143


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_reaches_the_task_once(start: Start, number: signal.Signals):
    owner, _ = start()
    owner.send_signal(number)
    output, _ = owner.communicate()
    assert (owner.returncode, output) == (143, f"stopped by {number.value}\n")


def test_a_task_whose_owner_is_killed_saves_its_state(start: Start):
    owner, _ = start()
    owner.kill()
    output, _ = owner.communicate()
    assert output == "stopped by 15\n"
    assert run("0").returncode == 0


def test_a_task_is_killed_with_the_server(server: psutil.Process, start: Start):
    owner, task = start()
    server.kill()
    assert owner.wait() == 1
    psutil.wait_procs([task], timeout=60)
    assert not task.is_running()


def test_the_temporary_folder_may_have_a_long_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    folder = tmp_path / ("long" * 30)
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    with serving():
        assert told(run("tell"))["parent"] != os.getpid()
    assert list(folder.iterdir()) == []


def test_a_task_that_works_lets_the_server_import_what_stages_need(start: Start):
    assert told(run("tell"))["modules"] == ["kfp"]
    start()
    while told(run("tell"))["modules"] != ["torch", "mlflow", "kfp"]:
        pass
