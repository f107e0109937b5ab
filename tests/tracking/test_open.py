from __future__ import annotations

import datetime as dt
import logging
import subprocess
import sys

import pytest

from sskd_core.config.storage import StorageConfig
from sskd_core.config.tracking import TrackingConfig
from sskd_core.errors import UserError
from sskd_core.storage.digest import code_digest, digest_json
from sskd_core.storage.manifest import Manifest
from sskd_core.tracking.client import experiment_id
from sskd_core.tracking.open import PARENT_TAG, PIPELINE_TAG, open_stage_run, record_stages
from sskd_core.tracking.run import NullRun, TrackingRun

KEY = digest_json("pipeline")


@pytest.fixture
def opened(tracking: TrackingConfig, storage: StorageConfig):
    """Open the run of a node."""

    def do(node: str, fingerprint: str = "sha256:1", key: str = KEY, mode: str = "own") -> TrackingRun:
        config = tracking.model_copy(update={"mode": mode})
        return open_stage_run(config, node, "distill", fingerprint, key, storage)

    return do


@pytest.fixture
def all_runs(client, tracking: TrackingConfig, storage: StorageConfig):
    """Return all runs, the parents first."""

    def do() -> tuple[list, list]:
        found = client.search_runs([experiment_id(client, tracking, storage)])
        parents = [run for run in found if PIPELINE_TAG in run.data.tags]
        return parents, [run for run in found if run not in parents]

    return do


def manifest(node: str, **metrics: float) -> Manifest:
    return Manifest(
        stage=node,
        fingerprint=digest_json(node),
        metrics=metrics,
        config_digest=digest_json({}),
        code_digest=digest_json({}),
        created=dt.datetime(2025, 1, 1, tzinfo=dt.UTC),
        uri=f"s3://bucket/{node}/manifest.json",
    )


def test_stages_of_one_pipeline_share_a_parent(opened, all_runs):
    opened("distill", "sha256:1").close("FINISHED")
    opened("refine", "sha256:2").close("FINISHED")
    opened("distill", "sha256:3", key=digest_json("another")).close("FINISHED")
    parents, nested = all_runs()
    assert len(parents) == 2
    (mine,) = [run.info.run_id for run in parents if run.data.tags[PIPELINE_TAG] == KEY]
    below = [run for run in nested if run.data.tags[PARENT_TAG] == mine]
    assert sorted(run.info.run_name for run in below) == ["distill", "refine"]
    assert {run.info.status for run in below} == {"FINISHED"}
    tags = next(run.data.tags for run in below if run.info.run_name == "distill")
    assert (tags["sskd.stage"], tags["sskd.node"], tags["sskd.fingerprint"]) == ("distill", "distill", "sha256:1")
    assert tags["sskd.code_digest"] == code_digest()


@pytest.mark.parametrize("ending", [None, "FAILED", "KILLED"])
def test_a_stage_that_did_not_finish_takes_its_run_up_again(opened, all_runs, client, ending: str | None):
    first = opened("distill")
    if ending is not None:  # else the process was killed and could say nothing
        first.close(ending)
    again = opened("distill")
    assert again.run_id == first.run_id
    parents, nested = all_runs()
    assert {run.info.status for run in (*parents, *nested)} == {"RUNNING"}
    again.close("FINISHED")
    assert client.get_run(again.run_id).info.status == "FINISHED"


def test_a_finished_stage_that_is_done_anew_has_a_new_run(opened):
    first = opened("distill")
    first.close("FINISHED")
    assert opened("distill").run_id != first.run_id


def test_another_result_is_another_run(opened):
    assert opened("distill", "sha256:1").run_id != opened("distill", "sha256:2").run_id


def test_stages_that_make_the_parent_at_once_agree_on_the_oldest(
    opened, all_runs, client, monkeypatch: pytest.MonkeyPatch
):
    elsewhere = opened("prepare").run_id
    search, answers = client.search_runs, []

    def blind_at_first(self, *args, **values):
        answers.append([] if not answers else search(*args, **values))
        return answers[-1]

    monkeypatch.setattr(type(client), "search_runs", blind_at_first)
    own = opened("train_supervised", "sha256:2").run_id
    monkeypatch.undo()
    parents, nested = all_runs()
    assert len(parents) == 1
    assert {run.info.run_id for run in nested} == {elsewhere, own}
    assert {run.data.tags[PARENT_TAG] for run in nested} == {parents[0].info.run_id}


def test_a_run_of_the_platform_is_used_and_left_open(opened, all_runs, client, monkeypatch: pytest.MonkeyPatch):
    theirs = client.create_run("0").info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", theirs)
    run = opened("distill", mode="auto")
    run.log_metrics({"loss": 1.0}, step=1)
    run.close("FAILED")
    assert run.run_id == theirs
    assert client.get_run(theirs).info.status == "RUNNING"
    assert client.get_run(theirs).data.metrics == {"distill/loss": 1.0}
    assert all_runs() == ([], [])


def test_a_run_of_the_platform_that_is_not_there_is_told(opened, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MLFLOW_RUN_ID", "0123456789abcdef0123456789abcdef")
    with pytest.raises(UserError, match="the platform names a run that MLflow does not have"):
        opened("distill", mode="injected")


def test_off_asks_nobody():
    code = (
        "import sys; from sskd_core.config.storage import StorageConfig\n"
        "from sskd_core.config.tracking import TrackingConfig\n"
        "from sskd_core.tracking.open import open_stage_run, record_stages\n"
        "off = TrackingConfig(mode='off', uri='http://127.0.0.1:9')\n"
        "run = open_stage_run(off, 'distill', 'distill', 'f', 'k', StorageConfig())\n"
        "record_stages(off, 'k', {'distill': None}, StorageConfig())\n"
        "print(type(run).__name__, run.run_id, 'mlflow' in sys.modules, 'torch' in sys.modules)"
    )
    expected = f"{NullRun.__name__} None False False"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == expected


def test_the_parent_knows_the_manifests_and_ends_with_the_last(
    tracking: TrackingConfig, storage: StorageConfig, client, all_runs
):
    found = {"prepare": manifest("prepare"), "refine": manifest("refine", val_mask_ap=31.5)}
    for _ in range(2):
        record_stages(tracking, KEY, found, storage)
    ((parent,), _) = all_runs()
    assert parent.data.tags["stage.prepare.manifest"] == found["prepare"].uri
    assert parent.data.tags["stage.refine.digest"] == found["refine"].digest
    assert len(client.get_metric_history(parent.info.run_id, "refine/val_mask_ap")) == 1
    assert parent.info.status == "RUNNING"
    record_stages(tracking, KEY, {"register": manifest("register")}, storage)
    assert client.get_run(parent.info.run_id).info.status == "FINISHED"


def test_a_server_that_has_gone_is_a_warning_once_the_results_stand(
    tracking: TrackingConfig, storage: StorageConfig, caplog: pytest.LogCaptureFixture
):
    away = tracking.model_copy(update={"uri": "carrier-pigeon://roof"})
    with caplog.at_level(logging.WARNING):
        record_stages(away, KEY, {"refine": manifest("refine")}, storage)
    assert "MLflow was not told of refine" in caplog.text
