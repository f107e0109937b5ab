"""One process of a machine at a time works on a result; the others wait and then find it."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sskd_core.progress import Progress


@contextmanager
def alone(folder: str | None, name: str, progress: Progress) -> Iterator[None]:
    """Hold the lock of a result. The system releases it with the process, however that ends.

    Args:
        folder: local, shared by the processes; None, where there is no such folder, locks nothing.
        name: of the result, a file name.
        progress: is told of a wait.
    """
    if folder is None:
        yield
        return
    place = Path(folder) / "locks"
    place.mkdir(parents=True, exist_ok=True)
    with (place / f"{name}.lock").open("wb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress.note("another process on this machine is at work on it; waiting")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
