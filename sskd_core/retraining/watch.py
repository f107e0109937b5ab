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
        waiting: of them, new images that were too few to run for.
    """

    min_new: int
    quiet_seconds: float
    handled: frozenset[Hashable] = frozenset()
    waiting: int = 0
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
        arrived = len(listing - self.handled)
        enough = arrived > 0 and arrived + self.waiting >= self.min_new
        return enough and now - self._since >= self.quiet_seconds

    def done(self, listing: frozenset[Hashable], waiting: int) -> None:
        """Remember that a run has seen these files, and how many new images among them it left for the next one."""
        self.handled, self.waiting = listing, waiting


def watch(
    state: Watch,
    list_now: Callable[[], frozenset[Hashable]],
    run: Callable[[], int],
    clock: Callable[[], float],
    wait: Callable[[], None],
) -> None:
    """Look again and again; return only when something raises, such as a signal or a run that was refused.

    Args:
        state: what is known.
        list_now: lists the files.
        run: looks for new images among them, and retrains if there are enough; returns how many it left.
        clock: seconds.
        wait: until the next look.
    """
    while True:
        listing = list_now()
        if state.is_due(listing, clock()):
            state.done(listing, run())
        wait()
