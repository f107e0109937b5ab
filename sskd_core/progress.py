"""Progress records: how a stage tells, from any process, what it is doing.

Records are JSON lines. Under the command line they are appended to `$SSKD_PROGRESS_DIR/<node>.jsonl`, from which the
live view draws; in a container there is no such folder and a line per record goes to the log instead.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

log = logging.getLogger(__name__)
DIRECTORY_VARIABLE = "SSKD_PROGRESS_DIR"
EndStatus = Literal["done", "cached", "refused", "failed", "interrupted"]
_LOG_SECONDS = 15.0


class Progress:
    """Writes the progress of one node.

    Args:
        node: pipeline node, with `.N` behind it for worker N of a node that fans out.
        directory: folder of the record files; default from the environment, else records go to the log.
    """

    def __init__(self, node: str, directory: Path | None = None) -> None:
        self.node = node
        where = os.environ.get(DIRECTORY_VARIABLE)
        self._directory = directory or (Path(where) if where else None)
        self._last_log = 0.0

    def start(self, detail: str = "") -> None:
        """Say that the node begins."""
        self._write("start", detail=detail)

    def update(self, done: int, total: int, unit: str, **figures: float) -> None:
        """Say how far the node is.

        Args:
            done: units finished.
            total: units in all.
            unit: what is counted: `images`, `iterations`, `shards`.
            figures: short live figures, for instance `loss` or `val_mask_ap`.
        """
        self._write("update", done=done, total=total, unit=unit, figures=figures)

    def note(self, message: str) -> None:
        """Say something that a person would want to know."""
        self._write("note", detail=message)

    def end(self, status: EndStatus, detail: str = "", problems: Sequence[str] = ()) -> None:
        """Say that the node ended.

        Args:
            status: `refused` is the user's to mend, `failed` is a defect.
            detail: one line, for whoever sees only that.
            problems: every problem found, where there are several.
        """
        self._write("end", status=status, detail=detail, problems=list(problems))

    def _write(self, kind: str, **values: Any) -> None:
        now = time.time()
        if self._directory is not None:
            record = json.dumps({"time": now, "node": self.node, "kind": kind, **values})
            self._directory.mkdir(parents=True, exist_ok=True)
            with (self._directory / f"{self.node}.jsonl").open("a", encoding="utf-8") as stream:
                stream.write(record + "\n")
        elif kind != "update" or now - self._last_log >= _LOG_SECONDS or values["done"] == values["total"]:
            self._last_log = now
            text = " ".join(f"{key}={value}" for key, value in values.items() if value not in ("", {}, []))
            log.info("%s %s %s", self.node, kind, text)


class NoProgress(Progress):
    """Of a process beside the one that tells."""

    def _write(self, kind: str, **values: Any) -> None:
        pass
