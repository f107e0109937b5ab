"""Opening the MLflow run of a stage: the platform's, our own below its or our parent, or none.

All runs of the same work share one parent, which is found by a tag. A stage that was killed and runs again takes up
its unfinished run.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING

from sskd_core.config.storage import StorageConfig
from sskd_core.config.tracking import TrackingConfig
from sskd_core.errors import SskdError, UserError
from sskd_core.storage.digest import code_digest
from sskd_core.storage.manifest import Manifest
from sskd_core.tracking.client import connect, experiment_id, first_line, resolved_mode
from sskd_core.tracking.mlflow_run import MlflowRun
from sskd_core.tracking.platform import PlatformRun, platform_run
from sskd_core.tracking.run import NullRun, TrackingRun

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.tracking import MlflowClient

log = logging.getLogger(__name__)
PIPELINE_TAG = "sskd.pipeline"
FINGERPRINT_TAG = "sskd.fingerprint"
PARENT_TAG = "mlflow.parentRunId"
LAST_NODE = "register"
_OLDEST_FIRST = ["attributes.start_time ASC", "attributes.run_id ASC"]


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
        UserError: the server cannot be reached, or does not know the run of the platform.
    """
    mode = resolved_mode(config)
    if mode == "off":
        return NullRun()
    client = connect(config, storage)
    if mode == "injected":
        run = _open_injected(client, node, fingerprint)
    else:
        experiment = experiment_id(client, config, storage)
        parent = _parent(client, experiment, pipeline_key)
        client.update_run(parent, status="RUNNING")
        nested = _nested(client, experiment, parent, node, fingerprint)
        run = MlflowRun(client, nested, owned=True, parent=parent)
    run.set_tags(
        {"sskd.stage": stage, "sskd.node": node, FINGERPRINT_TAG: fingerprint, "sskd.code_digest": code_digest()}
    )
    return run


def record_stages(
    config: TrackingConfig, pipeline_key: str, manifests: Mapping[str, Manifest], storage: StorageConfig
) -> None:
    """Tell the run of the whole pipeline where manifests are; also for results that were found and not made.

    What it already says is not written again. The results stand in the store, so a server that has gone away is only
    worth a warning.

    Args:
        config: mode and server.
        pipeline_key: as for `open_stage_run`.
        manifests: by node. With that of `register` among them, our own run of the pipeline is finished.
        storage: where artifacts live.
    """
    mode = resolved_mode(config)
    if mode == "off" or not manifests:
        return
    try:
        client = connect(config, storage)
        if mode == "injected":
            platform = _injected(client)
            _record(client, platform.parent_id or str(platform.run_id), manifests)
        else:
            parent = _parent(client, experiment_id(client, config, storage), pipeline_key)
            _record(client, parent, manifests)
            if LAST_NODE in manifests:
                client.set_terminated(parent, status="FINISHED")
    except Exception as error:
        if isinstance(error, SskdError) and not isinstance(error, UserError):
            raise
        log.warning("MLflow was not told of %s: %s", ", ".join(manifests), first_line(error))


def _record(client: MlflowClient, run_id: str, manifests: Mapping[str, Manifest]) -> None:
    known = client.get_run(run_id).data.tags
    run = MlflowRun(client, run_id, owned=False)
    for node, manifest in manifests.items():
        tags = {f"stage.{node}.manifest": manifest.uri, f"stage.{node}.digest": manifest.digest}
        if any(known.get(key) != value for key, value in tags.items()):
            run.set_tags(tags)
            run.log_metrics({f"{node}/{name}": value for name, value in manifest.metrics.items()})
    run.close("FINISHED")


def _open_injected(client: MlflowClient, node: str, fingerprint: str) -> MlflowRun:
    """Use the run that the platform opened for this task, or open one below its run of the pipeline."""
    platform = _injected(client)
    if platform.run_id is not None:
        return MlflowRun(client, platform.run_id, owned=False, node=node)
    nested = _nested(client, str(platform.experiment_id), str(platform.parent_id), node, fingerprint)
    return MlflowRun(client, nested, owned=True)


def _injected(client: MlflowClient) -> PlatformRun:
    """Return the platform's runs, which MLflow must have."""
    from mlflow.exceptions import MlflowException

    platform = platform_run()
    if platform is None:
        raise UserError("the platform has opened no MLflow run")
    for run_id in filter(None, (platform.run_id, platform.parent_id)):
        try:
            client.get_run(run_id)
        except MlflowException as error:
            raise UserError(f"the platform names a run that MLflow does not have: {first_line(error)}") from None
    return platform


def _nested(client: MlflowClient, experiment: str, parent: str, node: str, fingerprint: str) -> str:
    """Return the unfinished run of a fingerprint, or a new one."""
    wanted = f"tags.`{PARENT_TAG}` = '{parent}' and tags.`{FINGERPRINT_TAG}` = '{fingerprint}'"
    for run in client.search_runs([experiment], wanted):
        if run.info.status != "FINISHED":
            client.update_run(run.info.run_id, status="RUNNING")
            return str(run.info.run_id)
    tags = {PARENT_TAG: parent, FINGERPRINT_TAG: fingerprint}
    return str(client.create_run(experiment, tags=tags, run_name=node).info.run_id)


def _parent(client: MlflowClient, experiment: str, pipeline_key: str) -> str:
    """Find or create the run of the pipeline. Of several stages that create one at once, all keep the oldest."""
    wanted = f"tags.`{PIPELINE_TAG}` = '{pipeline_key}'"
    found: list[Run] = client.search_runs([experiment], wanted, order_by=_OLDEST_FIRST)
    if not found:
        name = f"pipeline {pipeline_key.removeprefix('sha256:')[:8]}"
        created = client.create_run(experiment, tags={PIPELINE_TAG: pipeline_key}, run_name=name).info.run_id
        found = client.search_runs([experiment], wanted, order_by=_OLDEST_FIRST)
        if found[0].info.run_id != created:
            client.delete_run(created)
    return str(found[0].info.run_id)
