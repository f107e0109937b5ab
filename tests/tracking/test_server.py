"""Against a real MLflow server, which takes its time to start."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sskd_core.config.storage import StorageConfig
from sskd_core.config.tracking import TrackingConfig
from sskd_core.tracking.client import connect
from sskd_core.tracking.open import open_stage_run
from sskd_core.tracking.registry import Registration, ensure_version, resolve

pytestmark = pytest.mark.slow
READY = "Uvicorn running on"


@pytest.fixture
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def server(backend: str, port: int, log: Path) -> Iterator[None]:
    """A server on loopback, until the block ends."""
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", backend]
    command += ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    with log.open("a") as errors:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
        )
        try:
            for line in process.stdout:
                errors.write(line)
                if READY in line:
                    break
            yield
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()


def test_a_run_survives_a_restart_of_the_server(
    tracking: TrackingConfig,
    storage: StorageConfig,
    port: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "120")
    remote = tracking.model_copy(update={"uri": f"http://127.0.0.1:{port}"})
    log = tmp_path / "server.log"
    with server(str(tracking.uri), port, log):
        run = open_stage_run(remote, "distill", "distill", "sha256:1", "sha256:2", storage)
    for step in range(1500):
        run.log_metrics({"loss": 0.5}, step=step)
    assert "does not answer, going on" in caplog.text
    with server(str(tracking.uri), port, log):
        run.close("FINISHED")
        client = connect(remote, storage)
        assert client.get_run(run.run_id).info.status == "FINISHED"
        assert len(client.get_metric_history(run.run_id, "loss")) == 1500
        wanted = Registration("student", "s3://bucket/m", run.run_id, "sha256:1", {})
        assert ensure_version(client, wanted).version == ensure_version(client, wanted).version == "1"
        assert resolve(client, "student", "challenger").version == "1"
