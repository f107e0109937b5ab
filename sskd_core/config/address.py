"""Addresses of servers in a configuration, which is shown with every run and so holds no secret."""

from __future__ import annotations

import re
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

_USER = re.compile(r"://[^/\s'\"]*@")


def _open(value: str) -> str:
    if "@" in urlsplit(value).netloc:
        raise ValueError(
            "holds a user or password, and settings are shown with every run; give them by environment variables"
        )
    return value


ServerUri = Annotated[str, AfterValidator(_open)]
"""A URI without user and password."""
HttpUri = Annotated[str, Field(pattern=r"^https?://"), AfterValidator(_open)]
"""Such a URI of a web server."""


def hide_user(text: str) -> str:
    """Return a text for a message, in which no URI shows its user and password."""
    return _USER.sub("://…@", text)
