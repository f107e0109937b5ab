"""What the platform says of its MLflow run, and what becomes of it in a real store."""

from __future__ import annotations

import json

import pytest

from sskd_core.config.tracking import TrackingConfig
from sskd_core.errors import UserError
from sskd_core.tracking.client import connect, resolved_mode
from sskd_core.tracking.open import open_stage_run
from sskd_core.tracking.platform import CONFIG_VARIABLE, RUN_VARIABLE, PlatformRun, platform_run

CONFIG = {
    "endpoint": "https://mlflow.example",
    "workspacesEnabled": True,
    "workspace": "team",
    "parentRunId": "parent",
    "experimentId": "7",
    "authType": "kubernetes",
}


def environment(**changes: object) -> dict[str, str]:
    return {CONFIG_VARIABLE: json.dumps(CONFIG | changes)}


def test_what_the_platform_says_is_read():
    assert platform_run({}) is None
    assert platform_run({RUN_VARIABLE: "", CONFIG_VARIABLE: ""}) is None
    assert platform_run({RUN_VARIABLE: "own"}) == PlatformRun("own")
    assert platform_run(environment()) == PlatformRun(None, "parent", "7", "https://mlflow.example", "team")
    assert platform_run(environment(workspacesEnabled=False) | {RUN_VARIABLE: "own"}) == PlatformRun(
        "own", "parent", "7", "https://mlflow.example", None
    )


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"endpoint": "x"}'])
def test_what_no_platform_says_is_one_line(text: str):
    with pytest.raises(UserError, match="KFP_MLFLOW_CONFIG is not what a pipeline server writes") as caught:
        platform_run({CONFIG_VARIABLE: text})
    assert len(str(caught.value).splitlines()) == 1


def test_its_server_is_used_and_no_secret_sent_over_an_open_line(storage, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("MLFLOW_WORKSPACE", "mine")
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "s3cret")
    monkeypatch.setenv(CONFIG_VARIABLE, environment(endpoint="http://mlflow.example")[CONFIG_VARIABLE])
    with pytest.raises(UserError, match=r"refusing to send MLFLOW_TRACKING_TOKEN to http://mlflow.example") as caught:
        connect(TrackingConfig(), storage)
    assert "s3cret" not in str(caught.value)


def test_stages_nest_below_the_platform_s_run_and_leave_it_open(
    tracking: TrackingConfig, client, storage, monkeypatch: pytest.MonkeyPatch
):
    parent = client.create_run("0").info.run_id
    told = environment(parentRunId=parent, experimentId="0", workspacesEnabled=False, endpoint=tracking.uri)
    monkeypatch.setenv(CONFIG_VARIABLE, told[CONFIG_VARIABLE])
    config = TrackingConfig()
    assert resolved_mode(config) == "injected"
    run = open_stage_run(config, "distill", "distill", "sha256:1", "sha256:key", storage)
    run.log_metrics({"loss": 1.0}, step=1)
    run.close("FAILED")
    nested = client.get_run(run.run_id)
    assert nested.data.tags["mlflow.parentRunId"] == parent
    assert nested.info.status == "FAILED"
    assert nested.data.metrics == {"loss": 1.0}
    assert client.get_run(parent).info.status == "RUNNING"
    again = open_stage_run(config, "distill", "distill", "sha256:1", "sha256:key", storage)
    assert again.run_id == run.run_id
    assert len(client.search_runs(["0"])) == 2
