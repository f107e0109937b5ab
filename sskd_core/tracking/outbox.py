"""What waits to be written to a server that may be away for a while.

Hours of training must not end because a tracking server restarts. A write that fails stays in line and is tried again
later, after rests that grow; a write that the server refuses would fail forever and is dropped.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable

from sskd_core.errors import SskdError

log = logging.getLogger(__name__)
_FIRST_REST_SECONDS = 30.0
_LONGEST_REST_SECONDS = 600.0
Write = Callable[[], object]


class Outbox:
    """Delivers writes in order. A write may happen twice, so it must not matter if it does.

    Args:
        receiver: who receives, for the log.
        is_refusal: whether an error means that the same write would fail again.
        clock: seconds.
    """

    def __init__(
        self, receiver: str, is_refusal: Callable[[Exception], bool], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._receiver, self._is_refusal, self._clock = receiver, is_refusal, clock
        self._waiting: deque[Write] = deque()
        self._rest = 0.0
        self._rests_until = float("-inf")

    def __len__(self) -> int:
        """Return the number of writes that wait."""
        return len(self._waiting)

    @property
    def is_resting(self) -> bool:
        """Whether the receiver is left alone after a fault."""
        return self._clock() < self._rests_until

    def add(self, write: Write) -> None:
        """Put a write in line."""
        self._waiting.append(write)

    def deliver(self, insist: bool = False) -> None:
        """Write what waits, oldest first, up to the first fault; nothing while the receiver is left alone.

        Args:
            insist: try even then.

        Raises:
            SskdError: the process was told to stop while it wrote.
        """
        if self.is_resting and not insist:
            return
        while self._waiting:
            try:
                self._waiting[0]()
            except Exception as error:
                _raise_our_own(error)
                if not self._is_refusal(error):
                    self._leave_alone(error)
                    return
                log.warning("%s refuses a record: %s", self._receiver, error)
            self._waiting.popleft()
        self._rest = 0.0

    def _leave_alone(self, error: Exception) -> None:
        self._rest = min(max(2 * self._rest, _FIRST_REST_SECONDS), _LONGEST_REST_SECONDS)
        self._rests_until = self._clock() + self._rest
        log.warning("%s does not answer, going on and trying again in %.0f s: %s", self._receiver, self._rest, error)


def _raise_our_own(error: BaseException | None) -> None:
    """Raise the signal to stop that arrived during a write, also where the receiver's client has wrapped it."""
    while error is not None:
        if isinstance(error, SskdError):
            raise error
        error = error.__cause__ or error.__context__
