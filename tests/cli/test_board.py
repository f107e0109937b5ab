"""The board reads what `Progress` writes, as it is being written, from several processes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sskd_core.cli.board import Board
from sskd_core.progress import Progress


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "progress"


def test_a_node_goes_from_waiting_to_done(folder: Path):
    board, progress = Board(folder, ["prepare", "distill"]), Progress("distill", folder)
    assert board.poll() == []
    assert board.nodes["distill"].status == "waiting"
    progress.start()
    progress.update(3, 10, "iterations", loss=2.5)
    board.poll()
    state = board.nodes["distill"]
    assert (state.status, state.done, state.total, state.unit, state.figures) == (
        "running", 3, 10, "iterations", {"loss": 2.5},
    )  # fmt: skip
    progress.end("done")
    board.poll()
    assert board.nodes["distill"].status == "done"
    assert board.nodes["prepare"].status == "waiting"
    assert board.faulty() is None


def test_of_a_node_that_is_done_there_is_no_more_news(folder: Path):
    board, progress = Board(folder, ["distill"]), Progress("distill", folder)
    progress.start()
    progress.end("done")
    assert len(board.poll()) == 2
    progress.start()
    progress.end("cached")
    assert board.poll() == []
    assert board.nodes["distill"].status == "done"


def test_each_record_is_returned_once(folder: Path):
    board, progress = Board(folder, ["distill"]), Progress("distill", folder)
    progress.start()
    assert [record["kind"] for _, record in board.poll()] == ["start"]
    progress.note("hello")
    assert [record["kind"] for _, record in board.poll()] == ["note"]
    assert board.poll() == []


def test_a_half_written_line_waits_for_its_rest(folder: Path):
    board = Board(folder, ["distill"])
    folder.mkdir()
    line = json.dumps({"time": 1.0, "node": "distill", "kind": "start", "detail": "ä"}).encode() + b"\n"
    with (folder / "distill.jsonl").open("ab", buffering=0) as stream:
        stream.write(line[:20])
        assert board.poll() == []
        stream.write(line[20:])
        assert len(board.poll()) == 1


def test_workers_add_up_and_only_the_collection_ends_the_node(folder: Path):
    board = Board(folder, ["relabel"])
    for worker in range(2):
        progress = Progress(f"relabel.{worker}", folder)
        progress.start()
        progress.update(10 * (worker + 1), 40, "images")
        progress.end("done")
    board.poll()
    state = board.nodes["relabel"]
    assert (state.status, state.done, state.total) == ("running", 30, 80)
    Progress("relabel", folder).end("done")
    board.poll()
    assert state.status == "done"


@pytest.mark.parametrize("status", ["refused", "failed"])
def test_the_fault_of_a_worker_is_the_node_s_and_stays(folder: Path, status: str):
    board = Board(folder, ["prepare", "relabel"])
    broken, other = Progress("relabel.0", folder), Progress("relabel.1", folder)
    broken.start()
    broken.end(status, "no such class", ["one", "two"])
    other.end("interrupted")
    board.poll()
    state = board.nodes["relabel"]
    assert board.faulty() is state
    assert (state.status, state.detail, state.problems) == (status, "no such class", ["one", "two"])


def test_the_rate_comes_from_the_records_and_starts_anew_after_a_restart(folder: Path):
    board = Board(folder, ["distill"])
    folder.mkdir()

    def write(time: float, done: int) -> None:
        record = {
            "time": time,
            "node": "distill",
            "kind": "update",
            "done": done,
            "total": 100,
            "unit": "it",
            "figures": {},
        }
        with (folder / "distill.jsonl").open("a") as stream:
            stream.write(json.dumps(record) + "\n")
        board.poll()

    state = board.nodes["distill"]
    write(100.0, 40)
    assert state.rate == 0.0
    assert state.seconds_left is None
    write(110.0, 60)
    assert state.rate == pytest.approx(2.0)
    assert state.seconds_left == pytest.approx(20.0)
    write(200.0, 20)
    assert state.rate == 0.0
    write(201.0, 24)
    assert state.rate == pytest.approx(4.0)
