"""The first task of a run: the form becomes an experiment, and what would fail later fails now.

It costs seconds of one CPU. What it leaves behind is the experiment as the run has it, at
`{root}/runs/{run id}/experiment.json`, where the report at the end finds it whatever became of the stages between.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from sskd_core.config.assemble import assemble
from sskd_core.config.experiment import ExperimentConfig
from sskd_core.errors import IntegrityError, UserError
from sskd_core.storage.store import ObjectStore

_MEDIA_TYPE = "application/json"


def configure(values: Mapping[str, Any], run_id: str, secrets: Mapping[str, str], check: bool) -> ExperimentConfig:
    """Make the experiment of a run and keep it.

    Args:
        values: the form, see `sskd_core.config.parameters`.
        run_id: of the orchestrator's run.
        secrets: environment variable -> `secret/key` that it is to come from.
        check: also use the store and MLflow once; for a caller who has not just done so.

    Returns:
        The experiment, with the digests of its data and weights.

    Raises:
        UserError: one line: a field is wrong, a secret is missing, a service does not answer, data are not there.
    """
    experiment = assemble(values)
    if experiment.storage.root is None:
        raise UserError("'storage_root' (storage.root) is required: the prefix that all results go below, s3://…")
    if check:
        check_secrets(secrets)
        _check_services(experiment)
    store = ObjectStore(experiment.storage)
    experiment = pinned(experiment, store)
    store.put(experiment_uri(store, run_id), experiment.model_dump_json(indent=1).encode(), _MEDIA_TYPE)
    return experiment


def pinned(experiment: ExperimentConfig, store: ObjectStore) -> ExperimentConfig:
    """Return the experiment with the digests of its data sources and initial weights as they are now.

    Raises:
        UserError: data or weights are not there.
    """
    from sskd_core.data.pin import pin_sources
    from sskd_core.models.pin import pin_weights

    data = pin_sources(experiment.data, store)
    return pin_weights(experiment.model_copy(update={"data": data}), store)


def kept_experiment(store: ObjectStore, run_id: str) -> ExperimentConfig | None:
    """Return the experiment of a run, or None if the run never got that far.

    Raises:
        IntegrityError: what lies there is no experiment.
    """
    uri = experiment_uri(store, run_id)
    data = store.get_if_exists(uri)
    try:
        return None if data is None else ExperimentConfig.model_validate_json(data)
    except ValidationError as error:
        raise IntegrityError(f"{uri} is no experiment of this version: {str(error).splitlines()[0]}") from None


def experiment_uri(store: ObjectStore, run_id: str) -> str:
    """Return where the experiment of a run is kept."""
    return f"{store.root}/runs/{run_id}/experiment.json"


def check_secrets(secrets: Mapping[str, str], environment: Mapping[str, str] = os.environ) -> None:
    """Make sure that every secret has reached this task.

    Args:
        secrets: environment variable -> `secret/key`.
        environment: of the task.

    Raises:
        UserError: the first that has not, and the command that looks at it without showing it.
    """
    for variable, source in sorted(secrets.items()):
        if not environment.get(variable):
            secret, _, key = source.partition("/")
            raise UserError(
                f"{variable} is not set: the namespace has no secret '{secret}' with the key '{key}'; "
                f"check: kubectl describe secret {secret}"
            )


def _check_services(experiment: ExperimentConfig) -> None:
    from sskd_core.services.doctor import check_storage
    from sskd_core.tracking.client import connect, resolved_mode

    for item in check_storage(experiment.storage):
        if not item.ok:
            raise UserError(f"{item.name}: {item.detail}; {item.advice}; check: sskd doctor")
    try:
        if resolved_mode(experiment.tracking) != "off":
            connect(experiment.tracking, experiment.storage)
    except UserError as error:
        raise UserError(f"{error}; check: sskd doctor") from None
