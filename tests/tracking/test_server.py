"""Against a real MLflow server, which takes its time to start."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sskd_core.config.storage import StorageConfig
from sskd_core.config.tracking import TrackingConfig
from sskd_core.errors import UserError
from sskd_core.tracking.client import connect
from sskd_core.tracking.open import open_stage_run
from sskd_core.tracking.platform import CONFIG_VARIABLE, RUN_VARIABLE
from sskd_core.tracking.registry import Registration, ensure_version, resolve
from tests.mlflow_server import free_port, mlflow_server

pytestmark = pytest.mark.slow


@pytest.fixture
def port() -> int:
    return free_port()


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
    with mlflow_server(str(tracking.uri), port, log):
        run = open_stage_run(remote, "distill", "distill", "sha256:1", "sha256:2", storage)
    for step in range(1500):
        run.log_metrics({"loss": 0.5}, step=step)
    assert "does not answer, going on" in caplog.text
    with mlflow_server(str(tracking.uri), port, log):
        run.close("FINISHED")
        client = connect(remote, storage)
        assert client.get_run(run.run_id).info.status == "FINISHED"
        assert len(client.get_metric_history(run.run_id, "loss")) == 1500
        wanted = Registration("student", "s3://bucket/m", run.run_id, "sha256:1", {})
        assert ensure_version(client, wanted).version == ensure_version(client, wanted).version == "1"
        assert resolve(client, "student", "challenger").version == "1"


def test_stages_write_into_the_runs_that_a_platform_opened(
    tracking: TrackingConfig, storage: StorageConfig, port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    with mlflow_server(str(tracking.uri), port, tmp_path / "server.log") as url:
        client = connect(TrackingConfig(uri=url), storage)
        pipeline, task = (client.create_run("0", run_name=name).info.run_id for name in ("pipeline", "task"))
        told = {"endpoint": url, "workspacesEnabled": False, "parentRunId": pipeline, "experimentId": "0"}
        monkeypatch.setenv(CONFIG_VARIABLE, json.dumps(told))
        injected = TrackingConfig(mode="injected")
        nested = open_stage_run(injected, "distill", "distill", "sha256:1", "sha256:2", storage)
        nested.log_metrics({"loss": 0.5}, step=1)
        nested.close("FINISHED")
        found = client.get_run(nested.run_id)
        assert (found.info.status, found.data.metrics) == ("FINISHED", {"loss": 0.5})
        assert found.data.tags["mlflow.parentRunId"] == pipeline

        monkeypatch.setenv(RUN_VARIABLE, task)
        own = open_stage_run(injected, "refine", "refine", "sha256:3", "sha256:2", storage)
        assert own.run_id == task
        own.log_metrics({"loss": 0.25}, step=1)
        own.close("FINISHED")
        assert client.get_run(task).data.metrics == {"refine/loss": 0.25}
        # They are the platform's to close, and no run of ours stands beside them.
        assert {client.get_run(run).info.status for run in (pipeline, task)} == {"RUNNING"}
        assert len(client.search_runs(["0"])) == 3
        assert [item.name for item in client.search_experiments()] == ["Default"]

        monkeypatch.setenv(RUN_VARIABLE, "0" * 32)
        with pytest.raises(UserError, match="the platform names a run that MLflow does not have"):
            open_stage_run(injected, "refine", "refine", "sha256:3", "sha256:2", storage)
