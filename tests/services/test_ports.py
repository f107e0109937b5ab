from __future__ import annotations

import socket

import pytest

from sskd_core.errors import StorageError
from sskd_core.services import ports


def test_chosen_ports_are_free_and_distinct() -> None:
    chosen = ports.choose()
    assert ports.are_free(chosen)
    assert len(set(chosen.all())) == 10
    assert chosen.admin_grpc == chosen.admin + 10_000
    assert all(1024 < port < 32_768 for port in chosen.all())


def test_any_listener_makes_them_taken() -> None:
    chosen = ports.choose()
    for port in (chosen.s3, chosen.filer_grpc, chosen.admin_grpc):
        with socket.create_server(("127.0.0.1", port)):
            assert not ports.are_free(chosen)
    assert ports.are_free(chosen)


def test_none_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "are_free", lambda chosen: False)
    with pytest.raises(StorageError, match="no free ports"):
        ports.choose()
