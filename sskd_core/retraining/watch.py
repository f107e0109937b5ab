"""Waiting until enough new files have arrived and no more come: when a retrain is worth its cost."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field


@dataclass
class Watch:
    """Decides at each look whether it is time.

    Attributes:
        min_new: files that must be new since the last run.
        quiet_seconds: how long the listing must have stayed as it is, so that an upload is not cut in half.
        handled: files that a run has seen.
    """

    min_new: int
    quiet_seconds: float
    handled: frozenset[Hashable] = frozenset()
    _last: frozenset[Hashable] = field(default=frozenset(), repr=False)
    _since: float = field(default=float("-inf"), repr=False)

    def is_due(self, listing: frozenset[Hashable], now: float) -> bool:
        """Return whether to run now.

        Args:
            listing: what identifies each file: its location and size.
            now: seconds of any clock.
        """
        if listing != self._last:
            self._last, self._since = listing, now
        return len(listing - self.handled) >= self.min_new and now - self._since >= self.quiet_seconds

    def done(self, listing: frozenset[Hashable]) -> None:
        """Remember that a run has seen these files."""
        self.handled = listing


def watch(
    state: Watch,
    list_now: Callable[[], frozenset[Hashable]],
    run: Callable[[], None],
    clock: Callable[[], float],
    wait: Callable[[], None],
) -> None:
    """Look again and again; return only when something raises, such as a signal or a run that was refused.

    Args:
        state: what is known.
        list_now: lists the files.
        run: looks for new images among them, and retrains if there are enough.
        clock: seconds.
        wait: until the next look.
    """
    while True:
        listing = list_now()
        if state.is_due(listing, clock()):
            run()
            state.done(listing)
        wait()
