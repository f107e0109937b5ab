"""The embedded MLflow store: one SQLite file, no server.

MLflow makes the tables when it first opens the file and does not guard this against a second process, so processes
that start together take turns here.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sskd_core.errors import UserError

_SCHEME = "sqlite:///"
_HEADER = b"SQLite format 3\0"


def embedded_uri(directory: Path) -> str:
    """Return the tracking URI of the store below `directory`, which is created if need be."""
    directory.mkdir(parents=True, exist_ok=True)
    return f"{_SCHEME}{(directory / 'mlflow.db').resolve()}"


@contextmanager
def opening(uri: str) -> Iterator[None]:
    """Let one process at a time open a SQLite store; for any other store there is nothing to do.

    Raises:
        UserError: the file cannot be written, or is no SQLite database.
    """
    path = _file_of(uri)
    if path is None:
        yield
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = path.with_name(f"{path.name}.lock").open("w")
    except OSError as error:
        raise UserError(f"cannot keep MLflow's store at {path}: {error.strerror}; set tracking.uri") from None
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _check_header(path)
        yield


def _file_of(uri: str) -> Path | None:
    if not uri.startswith(_SCHEME):
        return None
    name = uri.removeprefix(_SCHEME).partition("?")[0]
    return None if name in ("", ":memory:") else Path(name)


def _check_header(path: Path) -> None:
    """Refuse what is no database at once: MLflow tries to open such a file for minutes."""
    if path.exists():
        with path.open("rb") as stream:
            header = stream.read(len(_HEADER))
        if header not in (b"", _HEADER):
            raise UserError(f"{path} is not a SQLite database; move it away or set tracking.uri")
