"""The embedded object store: SeaweedFS on loopback, for a run that names no store of its own.

`embedded` starts it when it is not up and stops it when its last user leaves, in whichever process that is; `up`,
`down` and `status` manage one that stays. Users are counted by shared file locks, which the system drops when a process
dies, so neither a crash nor a second run beside the first leaves it in a wrong state.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sskd_core.config.storage import StorageConfig
from sskd_core.errors import StorageError
from sskd_core.services import ports, server
from sskd_core.services.environment import store_environment
from sskd_core.services.state import ServiceState, credentials, load_state, save_state

_START_TRIES = 3


@contextmanager
def embedded(directory: Path) -> Iterator[StorageConfig]:
    """Use the embedded store, starting it if need be.

    While the context is open the credentials are in the environment, for this process and its children.

    Args:
        directory: where data, credentials, log and state live; made if absent.

    Yields:
        The configuration of the store.

    Raises:
        StorageError: SeaweedFS is not installed, did not start, or the folder cannot be written.
    """
    folder = _prepared(directory)
    with (folder / "users.lock").open("a") as users:
        with _alone(folder):
            fcntl.flock(users, fcntl.LOCK_SH)
            state = _running(folder) or _start(folder, kept=False)
        try:
            with store_environment(credentials(folder)):
                yield state.storage_config()
        finally:
            with _alone(folder):
                fcntl.flock(users, fcntl.LOCK_UN)
                _stop_if_unused(folder)


def up(directory: Path) -> ServiceState:
    """Start the store to stay until `down`; one that runs already stays from now on.

    Raises:
        StorageError: as `embedded`.
    """
    folder = _prepared(directory)
    with _alone(folder):
        state = _running(folder) or _start(folder, kept=True)
        if not state.kept:
            state = state.model_copy(update={"kept": True})
            save_state(folder, state)
        return state


def down(directory: Path) -> bool:
    """Stop the store, whoever started it; its data stays.

    Returns:
        Whether it was running.
    """
    folder = directory.expanduser().resolve()
    if load_state(folder) is None:
        return False
    with _alone(folder):
        state = _running(folder)
        return state is not None and server.stop(state)


def status(directory: Path) -> ServiceState | None:
    """Return the running store of a folder, or None."""
    return _running(directory.expanduser().resolve())


def _running(folder: Path) -> ServiceState | None:
    state = load_state(folder)
    return state if state is not None and server.is_running(state) else None


def _start(folder: Path, kept: bool) -> ServiceState:
    before = load_state(folder)
    chosen = before.ports if before is not None and ports.are_free(before.ports) else ports.choose()
    for attempt in range(_START_TRIES):
        try:
            state = server.start(folder, chosen, credentials(folder), kept)
            break
        except StorageError:
            # Somebody may have taken a port since we looked; any other cause shows again at the next try.
            if attempt == _START_TRIES - 1 or ports.are_free(chosen):
                raise
            chosen = ports.choose()
    save_state(folder, state)
    return state


def _stop_if_unused(folder: Path) -> None:
    state = _running(folder)
    if state is None or state.kept:
        return
    with (folder / "users.lock").open("a") as users:
        try:
            fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        server.stop(state)


def _prepared(directory: Path) -> Path:
    folder = directory.expanduser().resolve()
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise StorageError(f"cannot make the folder {folder} for the embedded store: {error.strerror}") from None
    if not os.access(folder, os.W_OK):
        raise StorageError(f"cannot write to {folder}, the folder of the embedded store")
    return folder


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep other processes from starting or stopping the store meanwhile."""
    with (folder / "state.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
