"""Stopping at a safe place: SIGTERM and SIGINT become a flag that long loops look at between units of work.

A platform sends SIGTERM some seconds before it kills a pod; a person presses Ctrl-C. Either way a stage
finishes the batch at hand, saves its state and raises `Interrupted`.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any

from sskd_core.errors import Interrupted

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StopSignal:
    """A context manager that records SIGTERM and SIGINT instead of dying of them.

    Only the main thread can own signal handlers; entered in another thread it installs nothing and stays
    unset. The first signal puts the earlier handlers back, so a second one ends the process at once.

    Attributes:
        is_set: whether a signal arrived.
    """

    def __init__(self) -> None:
        self.is_set = False
        self._number = signal.SIGTERM
        self._earlier: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopSignal:
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                self._earlier[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()

    def check(self) -> None:
        """Raise if a signal arrived.

        Raises:
            Interrupted: call it where the state is saved.
        """
        if self.is_set:
            raise stopped_by(self._number)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.is_set = True
        self._number = signal.Signals(number)
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._earlier.items():
            # A handler that was not set from Python reads as None and cannot be set again.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._earlier.clear()


def stopped_by(number: signal.Signals) -> Interrupted:
    """Return the error of a stage that a signal stopped."""
    return Interrupted(f"stopped by {number.name}; run the same command again to go on", number)


@contextmanager
def interruptible() -> Iterator[None]:
    """Turn SIGTERM into `Interrupted`, wherever the main thread stands; a `StopSignal` inside takes precedence.

    Raises:
        Interrupted: SIGTERM arrived while no `StopSignal` was open.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        raise stopped_by(signal.Signals(number))

    earlier = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL if earlier is None else earlier)
