"""A real MLflow server on loopback."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_READY = "Uvicorn running on"


def free_port() -> int:
    """Return a port on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def mlflow_server(backend: str, port: int, log: Path) -> Iterator[str]:
    """Serve until the block ends; yields the server's URL.

    Args:
        backend: URI of its store.
        port: on loopback.
        log: is appended to until the server listens.
    """
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", backend]
    command += ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    # Without it MLflow starts eight processes more, of which nothing here is asked.
    environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with log.open("a") as errors:
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            env=environment,
        )
        try:
            for line in process.stdout:
                errors.write(line)
                if _READY in line:
                    break
            yield f"http://127.0.0.1:{port}"
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
