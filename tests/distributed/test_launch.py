"""Processes that torchrun really starts: how they end, and what is said about it in one line."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from sskd_core.distributed.launch import ENDINGS_VARIABLE, Ending, _problem, follows, run_processes, started_by_torchrun
from sskd_core.errors import Interrupted, UserError

# What the processes run: a module beside the test, told by its task what to do.
ACTOR = """
import os, signal, sys, threading
from pathlib import Path
from sskd_core.distributed.launch import Ending, leave_ending
task, rank = os.environ["SSKD_TASK"], int(os.environ["RANK"])
folder = Path(os.environ["ACTOR_FOLDER"])
stopped = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: stopped.set())
(folder / f"rank-{rank}").write_text(" ".join([os.environ["WORLD_SIZE"], os.environ["LOCAL_RANK"], str(os.getppid())]))
# Whoever ends first has the other one stopped, which must hear of it.
while task != "work" and not (folder / f"rank-{1 - rank}").exists():
    stopped.wait(0.01)
if task == "refuse" and rank == 1:
    leave_ending(Ending(1, 2, "the loss is not finite"))
    sys.exit(2)
if task == "die" and rank == 1:
    os.kill(os.getpid(), signal.SIGKILL)
if task == "signal" and rank == 0:
    os.kill(int(os.environ["ACTOR_PARENT"]), signal.SIGTERM)
if task != "work":
    stopped.wait(60)
    (folder / f"stopped-{rank}").touch()
    leave_ending(Ending(rank, 143, "stopped by SIGTERM; run the same command again to go on"))
    sys.exit(143 if rank == 0 else 0)
leave_ending(Ending(rank, 0))
"""


@pytest.fixture
def act(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Return a function that runs two actors and returns the folder that they leave files in."""
    (tmp_path / "sskd_test_actor.py").write_text(ACTOR)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *sys.path]))
    monkeypatch.setenv("ACTOR_FOLDER", str(tmp_path))
    monkeypatch.setenv("ACTOR_PARENT", str(os.getpid()))

    def run(task: str) -> Path:
        run_processes(2, "sskd_test_actor", task)
        return tmp_path

    return run


def test_each_process_knows_its_place(act):
    folder = act("work")
    assert [(folder / f"rank-{rank}").read_text().split()[:2] for rank in (0, 1)] == [["2", "0"], ["2", "1"]]


def test_the_line_of_a_process_that_refuses_is_the_error_and_the_other_is_stopped(act, tmp_path):
    with pytest.raises(UserError, match=r"^the loss is not finite$"):
        act("refuse")
    assert (tmp_path / "stopped-0").exists()


def test_when_a_process_is_killed_the_other_is_stopped_and_one_line_says_so(act, tmp_path):
    with pytest.raises(UserError) as caught:
        act("die")
    assert str(caught.value) == (
        "process 1 of 2 was killed by SIGKILL; the others were stopped; run the same command again to go on from the "
        "last checkpoint"
    )
    assert (tmp_path / "stopped-0").exists()


def test_a_signal_is_passed_on_to_all(act, tmp_path):
    with pytest.raises(Interrupted) as caught:
        act("signal")
    assert caught.value.exit_code == 128 + signal.SIGTERM
    assert all((tmp_path / f"stopped-{rank}").exists() for rank in (0, 1))


@pytest.mark.parametrize(
    ("endings", "expected"),
    [
        ({"0": Ending(0, 143, "stopped"), "first": Ending(0, 143)}, (Interrupted, "stopped")),
        ({"0": Ending(0, 143, "stopped"), "first": Ending(1, -9)}, (UserError, "process 1 of 2 was killed by SIGKILL")),
        (
            {"0": Ending(0, 1, "RuntimeError: gone"), "1": Ending(1, 1, "KeyError: 'x'"), "first": Ending(1, 1)},
            (UserError, "process 1 of 2 failed: KeyError: 'x'; the others"),
        ),
        ({"first": Ending(0, 7)}, (UserError, "process 0 of 2 ended with exit code 7")),
        ({}, (UserError, "process 0 of 2 ended with exit code 1")),
    ],
)
def test_endings_amount_to_one_line(endings, expected):
    problem = _problem(endings, 2)
    assert type(problem) is expected[0]
    assert str(problem).startswith(expected[1])


def test_torchruns_variables_tell_the_place():
    assert not started_by_torchrun({})
    assert not started_by_torchrun({"RANK": "0", "WORLD_SIZE": "1"})
    assert started_by_torchrun({"RANK": "0", "WORLD_SIZE": "2"})
    assert not follows({"RANK": "0", "WORLD_SIZE": "2"})
    assert follows({"RANK": "1", "WORLD_SIZE": "2"})
    assert ENDINGS_VARIABLE not in os.environ
