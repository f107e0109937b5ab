"""Errors that a user can act on.

Everything that is the user's to mend (a config key, a file, an endpoint) is raised as a `UserError` with one line that
says what was wrong, where, and what to do. The command line prints that line and exits with code 2; anything else is a
defect of ours and keeps its traceback.
"""

from __future__ import annotations

import signal
from collections.abc import Sequence


class SskdError(Exception):
    """Base of every error that this package raises on purpose."""


class UserError(SskdError):
    """Something that the user can mend; the message is one line."""


class ConfigError(UserError):
    """A configuration key or value is wrong."""


class DataError(UserError):
    """One or more problems of a data set, all found in one pass.

    Attributes:
        problems: one line each, in the order found.
    """

    def __init__(self, problems: str | Sequence[str]) -> None:
        self.problems: list[str] = [problems] if isinstance(problems, str) else list(problems)
        head = self.problems[0]
        more = len(self.problems) - 1
        super().__init__(head if not more else f"{head} (and {more} more problem{'s' if more > 1 else ''})")


class StorageError(UserError):
    """The object store could not be reached, or refused."""


class IntegrityError(UserError):
    """The bytes of an object are not those that its manifest names."""


class Interrupted(SskdError):
    """A signal arrived; the stage saved its state and can be run again to go on.

    Attributes:
        exit_code: of a process that ends for this reason, 128 and the signal's number.
    """

    def __init__(self, message: str, number: int = signal.SIGTERM) -> None:
        self.exit_code = 128 + number
        super().__init__(message)
