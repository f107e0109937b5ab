"""A proxy in front of the real store that loses, breaks or refuses what it is told to."""

from __future__ import annotations

import http.client
import socket
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import pytest

from sskd_core.config.storage import StorageConfig
from sskd_core.storage.store import ObjectStore

_HOP_BY_HOP = {"connection", "transfer-encoding", "keep-alive"}


@dataclass
class FaultProxy:
    """What the proxy does and saw.

    Attributes:
        store: a store that is reached through the proxy.
        faults: one for each request to come, then none: (status, S3 error code) to refuse, or
            "reset" (connection reset before the store is asked), "lost" (the same, after the store has answered),
            "truncate" (half of the body, then the connection ends), "flip" (one bit of the body is wrong), "pass".
        requests: (method, path) of what came.
    """

    store: ObjectStore
    faults: list[str | tuple[int, str]] = field(default_factory=list)
    requests: list[tuple[str, str]] = field(default_factory=list)


def _handler(upstream: str, proxy: FaultProxy) -> type[BaseHTTPRequestHandler]:
    address = urlsplit(upstream)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            proxy.requests.append((self.command, self.path))
            fault = proxy.faults.pop(0) if proxy.faults else "pass"
            if isinstance(fault, tuple):
                text = f"<Error><Code>{fault[1]}</Code><Message>on\npurpose</Message></Error>".encode()
                self._send(fault[0], {"Content-Type": "application/xml"}, text)
            elif fault == "reset":
                self._reset()
            else:
                self._forward(body, fault)

        def _forward(self, body: bytes, fault: str) -> None:
            connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=30)
            connection.request(self.command, self.path, body=body, headers=dict(self.headers))
            answer = connection.getresponse()
            data = answer.read()
            connection.close()
            if fault == "lost":
                self._reset()
                return
            if fault == "flip":
                data = bytes([data[0] ^ 1]) + data[1:]
            headers = {key: value for key, value in answer.getheaders() if key.lower() not in _HOP_BY_HOP}
            self._send(answer.status, headers, data, len(data) // 2 if fault == "truncate" else None)

        def _send(self, status: int, headers: dict[str, str], data: bytes, cut: int | None = None) -> None:
            self.send_response_only(status)
            length = headers.pop("Content-Length", None) if self.command == "HEAD" else None
            for key, value in headers.items():
                if key.lower() != "content-length":
                    self.send_header(key, value)
            self.send_header("Content-Length", length or str(len(data)))
            self.end_headers()
            self.wfile.write(data if cut is None else data[:cut])
            self.close_connection = cut is not None

        def _reset(self) -> None:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
            self.close_connection = True

        def finish(self) -> None:
            try:
                super().finish()
            except OSError:
                self.close_connection = True

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

        do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _answer

    return Handler


@pytest.fixture
def faulty(store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultProxy]:
    """The `store` seen through a proxy with faults; waits between tries are left out."""
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    proxy = FaultProxy(store)
    assert store.config.endpoint_url is not None
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(store.config.endpoint_url, proxy))
    server.daemon_threads = True
    config = store.config.model_copy(update={"endpoint_url": f"http://127.0.0.1:{server.server_port}"})
    proxy.store = ObjectStore(StorageConfig.model_validate(config.model_dump()))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield proxy
    server.shutdown()
    thread.join()
    server.server_close()
