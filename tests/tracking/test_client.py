from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from sskd_core.config.storage import StorageConfig
from sskd_core.config.tracking import TrackingConfig
from sskd_core.errors import UserError
from sskd_core.tracking.client import RUN_VARIABLE, configure_mlflow, connect, experiment_id, resolved_mode


@pytest.fixture
def closed_port() -> int:
    """A port on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_auto_follows_the_platform(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv(RUN_VARIABLE, raising=False)
    assert resolved_mode(TrackingConfig()) == "own"
    monkeypatch.setenv(RUN_VARIABLE, "abc")
    assert resolved_mode(TrackingConfig()) == "injected"
    assert resolved_mode(TrackingConfig(mode="own")) == "own"
    assert resolved_mode(TrackingConfig(mode="off")) == "off"


def test_injected_needs_a_run_of_the_platform(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv(RUN_VARIABLE, raising=False)
    with pytest.raises(UserError, match="has set no MLFLOW_RUN_ID"):
        resolved_mode(TrackingConfig(mode="injected"))


@pytest.mark.parametrize(
    ("uri", "secret"),
    [
        ("http://mlflow.example:5000", ("MLFLOW_TRACKING_TOKEN", "s3cret")),
        ("http://mlflow.example:5000", ("MLFLOW_TRACKING_PASSWORD", "s3cret")),
        ("http://someone:s3cret@mlflow.example:5000", None),
        ("http://10.0.0.7:5000", ("MLFLOW_TRACKING_TOKEN", "s3cret")),
    ],
)
def test_no_secret_over_an_open_line(
    tracking: TrackingConfig,
    storage: StorageConfig,
    monkeypatch: pytest.MonkeyPatch,
    uri: str,
    secret: tuple[str, str] | None,
):
    if secret is not None:
        monkeypatch.setenv(*secret)
    with pytest.raises(UserError, match="over plain http; use an https tracking URI") as caught:
        connect(tracking.model_copy(update={"uri": uri}), storage)
    assert "s3cret" not in str(caught.value)


def test_a_password_from_the_credentials_file_is_a_secret(
    tracking: TrackingConfig, storage: StorageConfig, tmp_path: Path
):
    (tmp_path / ".mlflow").mkdir()
    (tmp_path / ".mlflow" / "credentials").write_text(
        "[mlflow]\nmlflow_tracking_username = a\nmlflow_tracking_password = s3cret\n"
    )
    with pytest.raises(UserError, match="refusing to send the MLflow password"):
        connect(tracking.model_copy(update={"uri": "http://mlflow.example:5000"}), storage)


@pytest.mark.parametrize("scheme", ["http://127.0.0.1", "http://localhost"])
def test_loopback_is_no_open_line_and_a_server_that_is_away_is_one_line(
    tracking: TrackingConfig,
    storage: StorageConfig,
    monkeypatch: pytest.MonkeyPatch,
    closed_port: int,
    scheme: str,
):
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "s3cret")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(UserError, match="does not answer") as caught:
        connect(tracking.model_copy(update={"uri": f"{scheme}:{closed_port}"}), storage)
    assert "\n" not in str(caught.value)


def test_no_server_named(storage: StorageConfig, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(UserError, match=r"no MLflow server: set tracking\.uri"):
        connect(TrackingConfig(), storage)


def test_the_environment_may_name_the_server(
    tracking: TrackingConfig, storage: StorageConfig, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", str(tracking.uri))
    client = connect(tracking.model_copy(update={"uri": None}), storage)
    assert client.tracking_uri == tracking.uri


def test_an_unknown_kind_of_server_is_one_line(storage: StorageConfig):
    with pytest.raises(UserError, match="MLflow at carrier-pigeon://roof does not answer") as caught:
        connect(TrackingConfig(uri="carrier-pigeon://roof"), storage)
    assert "\n" not in str(caught.value)


def test_mlflow_is_pointed_at_the_store(monkeypatch: pytest.MonkeyPatch):
    for name in ("MLFLOW_S3_ENDPOINT_URL", "MLFLOW_BOTO_CLIENT_ADDRESSING_STYLE", "MLFLOW_DISABLE_TELEMETRY"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "7")
    configure_mlflow(StorageConfig(endpoint_url="http://store:8333", addressing_style="path"))
    assert os.environ["MLFLOW_S3_ENDPOINT_URL"] == "http://store:8333"
    assert os.environ["MLFLOW_BOTO_CLIENT_ADDRESSING_STYLE"] == "path"
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"
    assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "7"


def test_the_experiment_keeps_its_artifacts_below_the_root(client, tracking: TrackingConfig, storage: StorageConfig):
    first = experiment_id(client, tracking, storage)
    assert experiment_id(client, tracking, storage) == first
    assert client.get_experiment(first).artifact_location == f"{storage.root}/mlflow"


def test_a_deleted_experiment_is_told(client, tracking: TrackingConfig, storage: StorageConfig):
    client.delete_experiment(experiment_id(client, tracking, storage))
    with pytest.raises(UserError, match="MLflow experiment 'sskd' is deleted; restore it"):
        experiment_id(client, tracking, storage)
