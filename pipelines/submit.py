"""Starting a run on a KFP server, once or on a schedule."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import kfp_server_api
import yaml

from pipelines.cluster import ClusterConfig
from pipelines.compile import compile_pipeline
from pipelines.server import Server
from sskd_core.config.assemble import fill_in
from sskd_core.config.experiment import ExperimentConfig
from sskd_core.config.graph import Method
from sskd_core.errors import ConfigError

_CRON_FIELDS = 6


def submit(
    server: Server,
    cluster: ClusterConfig,
    experiment: ExperimentConfig,
    group: str,
    service_account: str | None = None,
    cron: str | None = None,
) -> dict[str, Any]:
    """Start a run, or create a recurring one.

    Args:
        server: where.
        cluster: the platform's choices.
        experiment: what to do; every field of the form is filled in from it.
        group: KFP's experiment, made if need be.
        service_account: of the run's pods; None for the server's default.
        cron: six fields, seconds first; None for a single run at once.

    Returns:
        Id, name, and link to the UI.

    Raises:
        UserError: the experiment cannot run there, no answer, or a refusal.
    """
    _check(experiment, cron)
    common = {
        "display_name": experiment.name,
        "description": f"sskd submit, seed {experiment.seed}",
        "experiment_id": _group_id(server, group),
        "pipeline_spec": pipeline_document(cluster, experiment.method),
        "runtime_config": kfp_server_api.V2beta1RuntimeConfig(parameters=fill_in(experiment)),
        "service_account": service_account,
    }
    if cron is None:
        runs = kfp_server_api.RunServiceApi(server.client)
        made = server.ask(runs.run_service_create_run, run=kfp_server_api.V2beta1Run(**common))
        return {"run": made.run_id, "name": made.display_name, "page": f"{server.host}/#/runs/details/{made.run_id}"}
    schedule = kfp_server_api.V2beta1Trigger(cron_schedule=kfp_server_api.V2beta1CronSchedule(cron=cron))
    wanted = kfp_server_api.V2beta1RecurringRun(
        **common, trigger=schedule, max_concurrency="1", mode=kfp_server_api.RecurringRunMode.ENABLE, no_catchup=True
    )
    recurring = kfp_server_api.RecurringRunServiceApi(server.client)
    kept = server.ask(recurring.recurring_run_service_create_recurring_run, recurring_run=wanted)
    page = f"{server.host}/#/recurringrun/details/{kept.recurring_run_id}"
    return {"recurring_run": kept.recurring_run_id, "name": kept.display_name, "cron": cron, "page": page}


def pipeline_document(cluster: ClusterConfig, method: Method) -> dict[str, Any]:
    """Return the compiled pipeline of a method as the server's API takes it."""
    with tempfile.TemporaryDirectory(prefix="sskd-") as folder:
        target = Path(folder) / "pipeline.yaml"
        compile_pipeline(target, cluster, method=method)
        documents = list(yaml.safe_load_all(target.read_text(encoding="utf-8")))
    return {"pipeline_spec": documents[0], "platform_spec": documents[1]}


def _check(experiment: ExperimentConfig, cron: str | None) -> None:
    """Refuse what only a machine of one's own has."""
    if cron is not None and len(cron.split()) != _CRON_FIELDS:
        raise ConfigError(f"--cron '{cron}': six fields, seconds first, for instance '0 0 3 * * 1' (Mondays at 3)")
    if experiment.storage.root is None:
        raise ConfigError("storage.root is required on a cluster: the prefix that results go below, s3://bucket/prefix")
    data = experiment.data
    sources = [source for source in (data.labeled, data.val, data.test) if source is not None]
    places = [place for source in sources for place in (source.annotations, source.images)] + data.unlabeled
    local = next((place for place in places if not place.startswith("s3://")), None)
    if local is not None:
        raise ConfigError(
            f"data: {local} is on this machine, where a cluster's tasks cannot read it; put it under s3://"
        )


def _group_id(server: Server, name: str) -> str:
    """Return the id of KFP's experiment of a name, which is created if need be."""
    groups = kfp_server_api.ExperimentServiceApi(server.client)
    question = {"predicates": [{"operation": "EQUALS", "key": "display_name", "stringValue": name}]}
    space = {"namespace": server.namespace} if server.namespace else {}
    found = server.ask(groups.experiment_service_list_experiments, filter=json.dumps(question), page_size=1, **space)
    if found.experiments:
        return str(found.experiments[0].experiment_id)
    wanted = kfp_server_api.V2beta1Experiment(display_name=name, namespace=server.namespace)
    return str(server.ask(groups.experiment_service_create_experiment, experiment=wanted).experiment_id)
