"""No secret over an open line: plain http is for this machine."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from sskd_core.errors import UserError


def refuse_open_line(uri: str, secret: str | None, what: str) -> None:
    """Refuse a URI over which a secret would go unprotected to another machine.

    Args:
        uri: of a server.
        secret: what would be sent, in words; None when there is none. A password in the URI counts in any case.
        what: the setting that holds the URI, for the message.

    Raises:
        UserError: plain http to another machine.
    """
    parts = urlsplit(uri)
    if parts.scheme != "http" or is_loopback(parts.hostname or ""):
        return
    secret = "a password" if parts.password else secret
    if secret:
        raise UserError(f"refusing to send {secret} to {without_credentials(uri)} over plain http; use an https {what}")


def is_loopback(host: str) -> bool:
    """Return whether a host is this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def without_credentials(uri: str) -> str:
    """Return the URI without user and password."""
    parts = urlsplit(uri)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
