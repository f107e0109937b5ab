"""The environment variables by which boto3 and MLflow, in this process and its children, reach the embedded store."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from sskd_core.services.state import HOST, Credentials

# A session token or a profile of the user's own would be mixed with our keys.
_REMOVED = ("AWS_SESSION_TOKEN", "AWS_SECURITY_TOKEN", "AWS_PROFILE", "AWS_DEFAULT_PROFILE")


@contextmanager
def store_environment(keys: Credentials) -> Iterator[None]:
    """Put the credentials into the environment and take loopback out of any proxy; undo both at the end."""
    values: dict[str, str | None] = {**keys.environment(), **dict.fromkeys(_REMOVED)}
    for name in ("NO_PROXY", "no_proxy"):
        before = os.environ.get(name)
        values[name] = f"{before},{HOST}" if before else HOST
    saved = {name: os.environ.get(name) for name in values}
    _apply(values)
    try:
        yield
    finally:
        _apply(saved)


def _apply(values: dict[str, str | None]) -> None:
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
