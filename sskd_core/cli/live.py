"""The view of a running pipeline: one table that redraws itself on a terminal, plain lines everywhere else."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Any, Protocol

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from sskd_core.cli.board import Board, NodeState, Status
from sskd_core.cli.format import duration, figure, rate

_MARKS: dict[Status, tuple[str, str]] = {
    "waiting": ("·", "dim"),
    "running": ("▶", "bold cyan"),
    "done": ("✔", "green"),
    "cached": ("✔", "green"),
    "refused": ("✘", "bold red"),
    "failed": ("✘", "bold red"),
    "interrupted": ("■", "yellow"),
}
_PLAIN_SECONDS = 15.0
_BAR_WIDTH = 12


class View(Protocol):
    """Shows a board until it is left."""

    def __enter__(self) -> View: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def refresh(self) -> None:
        """Show what is new."""
        ...


def make_view(board: Board, console: Console) -> View:
    """Return the view that fits the console."""
    return LiveView(board, console) if console.is_terminal else PlainView(board, console)


class LiveView:
    """One table that redraws itself."""

    def __init__(self, board: Board, console: Console) -> None:
        self._board = board
        self._live = Live(console=console, auto_refresh=False, get_renderable=lambda: table(board, time.time()))

    def __enter__(self) -> LiveView:
        self._live.start(refresh=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.refresh()
        self._live.stop()

    def refresh(self) -> None:
        """Read new records and redraw."""
        self._board.poll()
        self._live.refresh()


class PlainView:
    """A line for every start and end, and now and then one in between."""

    def __init__(self, board: Board, console: Console) -> None:
        self._board = board
        self._console = console
        self._last_update: dict[str, float] = {}

    def __enter__(self) -> PlainView:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.refresh()

    def refresh(self) -> None:
        """Read new records and print what is worth a line."""
        for state, record in self._board.poll():
            line = self._line(state, record)
            if line:
                stamp = time.strftime("%H:%M:%S", time.localtime(record["time"]))
                self._console.print(f"{stamp} {line}", markup=False, highlight=False, soft_wrap=True)

    def _line(self, state: NodeState, record: dict[str, Any]) -> str:
        process = record["node"]
        if record["kind"] == "start":
            return f"{process}: started"
        if record["kind"] == "note":
            return f"{process}: {record['detail']}"
        if record["kind"] == "end":
            took = record["time"] - (state.started or record["time"])
            return f"{process}: {record['status']} after {duration(took)}"
        if record["time"] - self._last_update.get(state.name, 0.0) < _PLAIN_SECONDS:
            return ""
        self._last_update[state.name] = record["time"]
        parts = (_count(state), _speed(state), _left(state), _figures(state))
        return f"{state.name}: " + ", ".join(part for part in parts if part)


def table(board: Board, now: float) -> Table:
    """Draw the board; 80 columns are enough for all but the figures.

    Args:
        board: the states.
        now: seconds since the epoch, for the time that running nodes have taken.
    """
    drawn = Table.grid(padding=(0, 1), expand=True)
    drawn.add_column(width=1)
    drawn.add_column(no_wrap=True, min_width=max(len(name) for name in board.nodes))
    drawn.add_column(width=_BAR_WIDTH)
    drawn.add_column(no_wrap=True, justify="right")
    drawn.add_column(no_wrap=True, justify="right")
    drawn.add_column(no_wrap=True, justify="right")
    drawn.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    for state in board.nodes.values():
        mark, style = _MARKS[state.status]
        running = state.status == "running"
        drawn.add_row(
            Text(mark, style),
            Text(state.name, style if state.status != "done" else ""),
            _middle(state),
            Text(f"{state.done}/{state.total}" if running and state.total else "", "dim"),
            Text(f"{state.rate:.3g}/s" if running and state.rate > 0 else "", "dim"),
            Text(_left(state) or _taken(state, now), "" if running else "dim"),
            Text(_figures(state) or state.note, "dim"),
        )
    return drawn


def _middle(state: NodeState) -> ProgressBar | Text:
    if state.status == "running" and state.total:
        return ProgressBar(total=state.total, completed=state.done, width=_BAR_WIDTH)
    texts = {"running": "starting", "done": "", "waiting": "", "cached": "done before"}
    return Text(texts.get(state.status, state.status), "dim")


def _taken(state: NodeState, now: float) -> str:
    if state.started is None or state.status == "cached":
        return ""
    return duration((state.ended or now) - state.started)


def _count(state: NodeState) -> str:
    return f"{state.done}/{state.total} {state.unit}" if state.total else ""


def _speed(state: NodeState) -> str:
    return rate(state.rate, state.unit) if state.status == "running" and state.rate > 0 else ""


def _left(state: NodeState) -> str:
    left = state.seconds_left
    return f"{duration(left)} left" if state.status == "running" and left is not None else ""


def _figures(state: NodeState) -> str:
    return "  ".join(f"{name} {figure(value)}" for name, value in state.figures.items())
