"""A task that a fork server runs cannot tell the difference, and neither can who started it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
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


def start(task: str) -> tuple[subprocess.Popen[str], psutil.Process]:
    """Start a task that waits; return the process that handed it over, and the task's own."""
    owner = subprocess.Popen(COMMAND, env=environment(task), cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    return owner, psutil.Process(int(owner.stdout.readline()))


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


def test_tasks_run_beside_each_other(server: psutil.Process):
    waiting = [start("wait") for _ in range(2)]
    assert run("2").returncode == 2
    for owner, _ in waiting:
        owner.terminate()
        assert owner.wait() == 143


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_reaches_the_task_once(server: psutil.Process, number: signal.Signals):
    owner, _ = start("wait")
    owner.send_signal(number)
    output, _ = owner.communicate()
    if number == signal.SIGTERM:
        assert (owner.returncode, output) == (143, "stopped by 15\n")
    else:
        assert owner.returncode == 128 + signal.SIGINT  # as of any Python program that does not catch it


def test_a_task_whose_owner_is_killed_saves_its_state(server: psutil.Process):
    owner, _ = start("wait")
    owner.kill()
    output, _ = owner.communicate()
    assert output == "stopped by 15\n"
    assert run("0").returncode == 0


def test_a_task_is_killed_with_the_server(server: psutil.Process):
    owner, task = start("wait")
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


def test_a_task_that_works_lets_the_server_import_what_stages_need(server: psutil.Process):
    owner, _ = start("wait")
    while "torch" not in told(run("tell"))["modules"]:
        pass
    assert told(run("tell"))["modules"] == ["torch", "mlflow", "kfp"]
    owner.terminate()
    assert owner.wait() == 143


def test_the_end_waits_for_the_tasks_that_still_run():
    with serving():
        owner, _ = start("wait")
        owner.terminate()
    assert owner.wait(timeout=0) == 143
