from __future__ import annotations

import io
from pathlib import Path

from rich.console import Console

from sskd_core.cli.board import Board
from sskd_core.cli.live import LiveView, PlainView, make_view, table
from sskd_core.progress import Progress


def console(terminal: bool) -> Console:
    return Console(file=io.StringIO(), force_terminal=terminal, width=140, highlight=False, color_system=None)


def text(shown: Console) -> str:
    return shown.file.getvalue()  # type: ignore[attr-defined]


def test_lines_without_a_terminal(tmp_path: Path):
    shown = console(terminal=False)
    view = make_view(Board(tmp_path, ["distill"]), shown)
    assert isinstance(view, PlainView)
    progress = Progress("distill", tmp_path)
    with view:
        progress.start()
        view.refresh()
        for done in range(1, 50):
            progress.update(done, 50, "iterations", loss=1.25)
        progress.note("chose step [40]")
        progress.end("done")
    lines = text(shown).splitlines()
    assert len(lines) == 4, "one line for many updates within moments"
    assert lines[0].endswith("distill: started")
    assert "distill: 49/50 iterations" in lines[1]
    assert "loss 1.25" in lines[1]
    assert lines[2].endswith("distill: chose step [40]")
    assert "distill: done after" in lines[3]


def test_a_terminal_gets_one_table(tmp_path: Path):
    shown = console(terminal=True)
    view = make_view(Board(tmp_path, ["prepare", "distill"]), shown)
    assert isinstance(view, LiveView)
    with view:
        Progress("distill", tmp_path).start()
        view.refresh()
    assert "prepare" in text(shown)
    assert "starting" in text(shown)


def test_the_table_says_how_far_how_fast_and_how_long(tmp_path: Path):
    board = Board(tmp_path, ["prepare", "adapt_teacher", "distill", "refine"])
    Progress("prepare", tmp_path).start()
    Progress("prepare", tmp_path).end("cached")
    Progress("adapt_teacher", tmp_path).start()
    Progress("adapt_teacher", tmp_path).end("refused", "no")
    running = Progress("distill", tmp_path)
    running.start()
    running.update(10, 40, "iterations", loss=0.5)
    board.poll()
    counter = board.nodes["distill"].counters[""]
    counter.recent.appendleft((counter.recent[0][0] - 10.0, 0))
    shown = Console(file=io.StringIO(), width=80, color_system=None)
    shown.print(table(board, now=(board.nodes["distill"].started or 0.0) + 65.0))
    rows = text(shown).splitlines()
    assert "done before" in rows[0]
    assert "refused" in rows[1]
    assert all(part in rows[2] for part in ("distill", "10/40", "1/s", "30s left", "loss 0.5"))
    assert rows[3].split() == ["·", "refine"]
