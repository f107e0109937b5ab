"""Two processes of a machine do not work on one result at once."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from sskd_core.progress import Progress
from sskd_core.stages.alone import alone

_HOLD = """
import sys
from sskd_core.progress import Progress
from sskd_core.stages.alone import alone
with alone(sys.argv[1], "distill-1", Progress("distill")):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path: Path):
    """A process that holds the lock until its standard input closes."""
    with subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout.readline() == b"held\n"
        yield process
        process.kill()


def notes(folder: Path) -> list[str]:
    path = folder / "distill.jsonl"
    return [json.loads(line)["detail"] for line in path.read_text().splitlines()] if path.exists() else []


def test_the_second_waits_and_says_so(holder, tmp_path):
    def note(message: str) -> None:
        said.append(message)
        holder.stdin.close()  # only now does the holder let go

    said: list[str] = []
    progress = Progress("distill", tmp_path / "progress")
    progress.note = note
    with alone(str(tmp_path), "distill-1", progress):
        holder.wait()
    assert said == ["another process on this machine is at work on it; waiting"]


def test_a_lock_dies_with_its_process(holder, tmp_path):
    holder.kill()
    holder.wait()
    with alone(str(tmp_path), "distill-1", Progress("distill", tmp_path / "progress")):
        assert notes(tmp_path / "progress") == []


def test_other_results_and_machines_without_a_shared_folder_are_free(holder, tmp_path):
    for folder, name in ((str(tmp_path), "distill-2"), (None, "distill-1")):
        with alone(folder, name, Progress("distill", tmp_path / "progress")):
            assert notes(tmp_path / "progress") == []
