"""What is known of a running pipeline: the progress records of all its processes, put together a node at a time."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

Status = Literal["waiting", "running", "done", "cached", "refused", "failed", "interrupted"]
FAULTS: tuple[Status, ...] = ("refused", "failed")
_RATE_RECORDS = 30
_RATE_SECONDS = 1.0


@dataclass
class Counter:
    """How far one process is.

    Attributes:
        done: units finished.
        total: units in all.
        unit: what is counted.
        recent: (time, done) of the newest records, from which the rate comes.
    """

    done: int = 0
    total: int = 0
    unit: str = ""
    recent: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=_RATE_RECORDS))

    def update(self, record: dict[str, Any]) -> None:
        """Take in an `update` record."""
        self.done, self.total, self.unit = record["done"], record["total"], record["unit"]
        if self.recent and self.done < self.recent[-1][1]:
            self.recent.clear()  # counted anew, after a restart
        self.recent.append((record["time"], self.done))

    @property
    def rate(self) -> float:
        """Units a second over the newest records; 0 while they span too little time to tell."""
        if not self.recent:
            return 0.0
        (first, before), (last, after) = self.recent[0], self.recent[-1]
        return (after - before) / (last - first) if last - first >= _RATE_SECONDS else 0.0


@dataclass
class NodeState:
    """What is known of one node.

    Attributes:
        name: of the node.
        status: where it stands.
        started: time of its first record.
        ended: time of its last.
        counters: by process: the node's own, and one a worker.
        figures: newest live figures.
        note: newest note.
        detail: why it ended, when not well.
        problems: all of them, where there are several.
    """

    name: str
    status: Status = "waiting"
    started: float | None = None
    ended: float | None = None
    counters: dict[str, Counter] = field(default_factory=dict)
    figures: dict[str, float] = field(default_factory=dict)
    note: str = ""
    detail: str = ""
    problems: list[str] = field(default_factory=list)

    @property
    def done(self) -> int:
        """Units finished, over all workers."""
        return sum(item.done for item in self.counters.values())

    @property
    def total(self) -> int:
        """Units in all, of the workers that have begun."""
        return sum(item.total for item in self.counters.values())

    @property
    def unit(self) -> str:
        """What is counted."""
        return next((item.unit for item in self.counters.values()), "")

    @property
    def rate(self) -> float:
        """Units a second; 0 when unknown."""
        return sum(item.rate for item in self.counters.values() if item.done < item.total)

    @property
    def seconds_left(self) -> float | None:
        """Estimated time to go, or None."""
        return (self.total - self.done) / self.rate if self.rate > 0 else None

    def take(self, record: dict[str, Any], worker: str) -> bool:
        """Take in a record; `worker` is empty for the node's own process.

        Returns:
            False when there is no news in it: another process finds the result of a node that is done.
        """
        if self.status == "done":
            return False
        kind = record["kind"]
        if kind == "start":
            self._start(record["time"])
        elif kind == "update":
            self.counters.setdefault(worker, Counter()).update(record)
            self.figures = record["figures"] or self.figures
        elif kind == "note":
            self.note = record["detail"]
        elif kind == "end" and (not worker or record["status"] in (*FAULTS, "interrupted")):
            # A worker that is done does not end its node: its labels are still to be collected.
            self._end(record)
        return True

    def _start(self, time: float) -> None:
        if self.started is None:
            self.started = time
        if self.status not in FAULTS:
            self.status = "running"

    def _end(self, record: dict[str, Any]) -> None:
        if self.status in FAULTS:
            return
        self.status, self.ended = record["status"], record["time"]
        self.detail, self.problems = record["detail"], record["problems"]


class Board:
    """The states of all nodes, read from a folder of record files that grow.

    Args:
        directory: as in `$SSKD_PROGRESS_DIR`; need not exist yet.
        nodes: names in display order.
    """

    def __init__(self, directory: Path, nodes: Iterable[str]) -> None:
        self.nodes: dict[str, NodeState] = {name: NodeState(name) for name in nodes}
        self._directory = directory
        self._read: dict[Path, int] = {}

    def poll(self) -> list[tuple[NodeState, dict[str, Any]]]:
        """Take in what was written since the last call; return the new records with their nodes."""
        fresh: list[tuple[NodeState, dict[str, Any]]] = []
        for path in sorted(self._directory.glob("*.jsonl")):
            for record in self._new_records(path):
                name, _, worker = record["node"].partition(".")
                state = self.nodes.setdefault(name, NodeState(name))
                if state.take(record, worker):
                    fresh.append((state, record))
        return sorted(fresh, key=lambda item: item[1]["time"])

    def faulty(self) -> NodeState | None:
        """Return the node that broke the pipeline, or None."""
        broken = [state for state in self.nodes.values() if state.status in FAULTS]
        return min(broken, key=lambda state: state.ended or 0.0, default=None)

    def _new_records(self, path: Path) -> list[dict[str, Any]]:
        seen = self._read.get(path, 0)
        if path.stat().st_size == seen:
            return []
        with path.open("rb") as stream:
            stream.seek(seen)
            data = stream.read()
        complete = data[: data.rfind(b"\n") + 1]
        self._read[path] = seen + len(complete)
        return [json.loads(line) for line in complete.splitlines()]
