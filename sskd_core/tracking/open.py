"""Opening the MLflow run of a stage: injected by the platform, our own below a parent, or none."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from sskd_core.config.storage import StorageConfig
from sskd_core.config.tracking import TrackingConfig
from sskd_core.storage.digest import code_digest
from sskd_core.storage.manifest import Manifest
from sskd_core.tracking.client import RUN_VARIABLE, connect, experiment_id, resolved_mode
from sskd_core.tracking.mlflow_run import MlflowRun
from sskd_core.tracking.run import NullRun, TrackingRun

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.tracking import MlflowClient

PIPELINE_TAG = "sskd.pipeline"
LAST_NODE = "register"


def open_stage_run(
    config: TrackingConfig, node: str, stage: str, fingerprint: str, pipeline_key: str, storage: StorageConfig
) -> TrackingRun:
    """Open the run of a stage.

    Args:
        config: mode and server.
        node: name of the place in the pipeline; the run's name.
        stage: what runs there.
        fingerprint: of the result. A run of the same fingerprint that did not finish is taken up again.
        pipeline_key: what all runs of the same work share; the parent carries it as a tag.
        storage: where artifacts live.

    Raises:
        UserError: the server cannot be reached.
    """
    mode = resolved_mode(config)
    if mode == "off":
        return NullRun()
    client = connect(config, storage)
    tags = {
        "sskd.stage": stage,
        "sskd.node": node,
        "sskd.fingerprint": fingerprint,
        "sskd.code_digest": code_digest(),
    }
    if mode == "injected":
        run = MlflowRun(client, os.environ[RUN_VARIABLE], owned=False)
    else:
        run = MlflowRun(client, _nested(client, config, storage, pipeline_key, node, fingerprint), owned=True)
    run.set_tags(tags)
    return run


def record_stage(
    config: TrackingConfig, pipeline_key: str, node: str, manifest: Manifest, storage: StorageConfig
) -> None:
    """Tell the parent run where a stage's manifest is; done for results that were found, too."""
    mode = resolved_mode(config)
    if mode == "off":
        return
    client = connect(config, storage)
    if mode == "injected":
        run_id = os.environ[RUN_VARIABLE]
    else:
        run_id = _parent(client, experiment_id(client, config, storage), pipeline_key)
    run = MlflowRun(client, run_id, owned=False)
    run.set_tags({f"stage.{node}.manifest": manifest.uri, f"stage.{node}.digest": manifest.digest})
    run.log_metrics({f"{node}/{name}": value for name, value in manifest.metrics.items()})
    run.close("FINISHED")
    if mode == "own" and node == LAST_NODE:
        client.set_terminated(run_id, status="FINISHED")


def _nested(
    client: MlflowClient,
    config: TrackingConfig,
    storage: StorageConfig,
    pipeline_key: str,
    node: str,
    fingerprint: str,
) -> str:
    experiment = experiment_id(client, config, storage)
    parent = _parent(client, experiment, pipeline_key)
    wanted = f"tags.`mlflow.parentRunId` = '{parent}' and tags.`sskd.fingerprint` = '{fingerprint}'"
    for run in client.search_runs([experiment], wanted):
        if run.info.status != "FINISHED":
            client.update_run(run.info.run_id, status="RUNNING")
            return str(run.info.run_id)
    tags = {"mlflow.parentRunId": parent, "sskd.fingerprint": fingerprint}
    return str(client.create_run(experiment, tags=tags, run_name=node).info.run_id)


def _parent(client: MlflowClient, experiment: str, pipeline_key: str) -> str:
    found: list[Run] = client.search_runs([experiment], f"tags.`{PIPELINE_TAG}` = '{pipeline_key}'")
    if found:
        return str(found[0].info.run_id)
    name = f"pipeline {pipeline_key.removeprefix('sha256:')[:8]}"
    return str(client.create_run(experiment, tags={PIPELINE_TAG: pipeline_key}, run_name=name).info.run_id)
