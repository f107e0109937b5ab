"""Free loopback ports for the embedded store."""

from __future__ import annotations

import secrets
import socket

from sskd_core.errors import StorageError
from sskd_core.services.state import HOST, Ports

# Below the range from which systems take the ports of outgoing connections, the admin part's offset included.
_LOWEST, _HIGHEST = 10_000, 19_000
_TRIES = 200


def are_free(ports: Ports) -> bool:
    """Return whether nobody listens on any of the ports."""
    return all(_is_free(port) for port in ports.all())


def choose() -> Ports:
    """Return a block of neighbouring free ports at a random place.

    Raises:
        StorageError: none was found.
    """
    names = list(Ports.model_fields)
    for _ in range(_TRIES):
        first = _LOWEST + secrets.randbelow(_HIGHEST - _LOWEST)
        ports = Ports(**{name: first + offset for offset, name in enumerate(names)})
        if are_free(ports):
            return ports
    raise StorageError(f"found no free ports between {_LOWEST} and {_HIGHEST} on {HOST} for the embedded store")


def _is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As the server does: connections of its predecessor that linger must not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True
