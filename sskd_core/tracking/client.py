"""Reaching MLflow: which mode holds, which server, and no secret over an open line.

MLflow is imported here and nowhere above, late, because it costs a second.
"""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from sskd_core.config.storage import StorageConfig
from sskd_core.config.tracking import TrackingConfig
from sskd_core.errors import UserError

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

RUN_VARIABLE = "MLFLOW_RUN_ID"
_SECRETS = ("MLFLOW_TRACKING_TOKEN", "MLFLOW_TRACKING_PASSWORD")
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


def resolved_mode(config: TrackingConfig) -> str:
    """Return `own`, `injected` or `off`; `auto` is decided by whether the platform has opened a run."""
    if config.mode == "auto":
        return "injected" if os.environ.get(RUN_VARIABLE) else "own"
    if config.mode == "injected" and not os.environ.get(RUN_VARIABLE):
        raise UserError(f"tracking.mode is 'injected' but the platform has set no {RUN_VARIABLE}; use 'auto' or 'own'")
    return config.mode


def connect(config: TrackingConfig, storage: StorageConfig) -> MlflowClient:
    """Return a client of the configured server and prove that it answers.

    Args:
        config: `uri` null means `$MLFLOW_TRACKING_URI`.
        storage: artifacts live in this store, so MLflow's S3 client is pointed at its endpoint.

    Raises:
        UserError: no URI, a secret over plain http, or no answer.
    """
    uri = config.uri or os.environ.get("MLFLOW_TRACKING_URI")
    if not uri:
        raise UserError("no MLflow server: set tracking.uri or MLFLOW_TRACKING_URI, or tracking.mode: off")
    _refuse_open_line(uri)
    if storage.endpoint_url is not None:
        os.environ["MLFLOW_S3_ENDPOINT_URL"] = storage.endpoint_url
    # A server that is down must be told of in seconds; the default is minutes of retries.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    for name in ("alembic", "mlflow"):
        logging.getLogger(name).setLevel(logging.WARNING)
    from mlflow.exceptions import MlflowException
    from mlflow.tracking import MlflowClient

    try:
        client = MlflowClient(tracking_uri=uri, registry_uri=uri)
        client.search_experiments(max_results=1)
    except MlflowException as error:
        raise UserError(f"MLflow at {_shown(uri)} does not answer: {str(error).splitlines()[0]}") from None
    return client


def experiment_id(client: MlflowClient, config: TrackingConfig, storage: StorageConfig) -> str:
    """Return the id of the configured MLflow experiment, which is created with its artifacts below the store's root."""
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(config.experiment)
    if found is None:
        try:
            created: str = client.create_experiment(
                config.experiment, artifact_location=f"{storage.root}/mlflow/{config.experiment}"
            )
            return created
        except MlflowException:  # somebody else was first
            found = client.get_experiment_by_name(config.experiment)
    if found.lifecycle_stage != "active":
        raise UserError(f"MLflow experiment '{config.experiment}' is deleted; restore it or set tracking.experiment")
    number: str = found.experiment_id
    return number


def _refuse_open_line(uri: str) -> None:
    parts = urlsplit(uri)
    if parts.scheme != "http" or parts.hostname in _LOOPBACK:
        return
    secret = next((name for name in _SECRETS if os.environ.get(name)), "a password" if parts.password else None)
    if secret:
        raise UserError(f"refusing to send {secret} to {_shown(uri)} over plain http; use an https tracking URI")


def _shown(uri: str) -> str:
    parts = urlsplit(uri)
    return uri if parts.password is None else uri.replace(f"{parts.username}:{parts.password}@", "")
