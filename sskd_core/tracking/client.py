"""Reaching MLflow: which mode holds, which server, and no secret over an open line.

MLflow is imported here and nowhere above, late, because it costs a second.
"""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Literal

from sskd_core.config.storage import StorageConfig
from sskd_core.config.tracking import TrackingConfig
from sskd_core.errors import SskdError, UserError
from sskd_core.services.line import refuse_open_line, without_credentials
from sskd_core.tracking.embedded import opening
from sskd_core.tracking.platform import CONFIG_VARIABLE, RUN_VARIABLE, platform_run

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

URI_VARIABLE = "MLFLOW_TRACKING_URI"
_DEFAULTS = {
    # A server that is down must be told of in seconds; MLflow's own default is minutes of retries.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}


def resolved_mode(config: TrackingConfig) -> Literal["own", "injected", "off"]:
    """Return the mode that holds; `auto` is decided by whether the platform has opened a run, see `platform_run`.

    Raises:
        UserError: mode `injected` without a run of the platform.
    """
    if config.mode == "auto":
        return "injected" if platform_run() else "own"
    if config.mode == "injected" and not platform_run():
        raise UserError(
            f"tracking.mode is 'injected' but the platform has set no {RUN_VARIABLE} and no {CONFIG_VARIABLE}; use "
            "'auto' or 'own'"
        )
    return config.mode


def configure_mlflow(storage: StorageConfig) -> None:
    """Set what MLflow reads from the environment: patience, no telemetry, and the store of the artifacts."""
    for name, value in _DEFAULTS.items():
        os.environ.setdefault(name, value)
    if storage.endpoint_url is not None:
        os.environ["MLFLOW_S3_ENDPOINT_URL"] = storage.endpoint_url
        os.environ["MLFLOW_BOTO_CLIENT_ADDRESSING_STYLE"] = storage.addressing_style
    for logger in ("alembic", "mlflow"):
        logging.getLogger(logger).setLevel(logging.WARNING)


def connect(config: TrackingConfig, storage: StorageConfig) -> MlflowClient:
    """Return a client of the configured server and prove that it answers.

    Args:
        config: `uri` null means `$MLFLOW_TRACKING_URI`.
        storage: artifacts live in this store, so MLflow's S3 client is pointed at its endpoint.

    Raises:
        UserError: no URI, a secret over plain http, or no answer.
    """
    uri = config.uri or os.environ.get(URI_VARIABLE) or _platform_uri(config)
    if not uri:
        raise UserError(f"no MLflow server: set tracking.uri or {URI_VARIABLE}, or tracking.mode: off")
    configure_mlflow(storage)
    refuse_open_line(uri, _configured_secret(), "tracking URI")
    from mlflow.tracking import MlflowClient

    try:
        with opening(uri):
            client = MlflowClient(tracking_uri=uri, registry_uri=uri)
            client.search_experiments(max_results=1)
    except SskdError:
        raise
    except Exception as error:  # a driver's own errors come through MLflow as they are
        raise UserError(f"MLflow at {without_credentials(uri)} does not answer: {first_line(error)}") from None
    return client


def experiment_id(client: MlflowClient, config: TrackingConfig, storage: StorageConfig) -> str:
    """Return the id of the configured MLflow experiment, which is created with its artifacts below the store's root.

    Raises:
        UserError: the experiment was deleted.
    """
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(config.experiment)
    if found is None:
        try:
            return str(client.create_experiment(config.experiment, artifact_location=f"{storage.root}/mlflow"))
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            found = client.get_experiment_by_name(config.experiment)
    if found is None or found.lifecycle_stage != "active":
        raise UserError(f"MLflow experiment '{config.experiment}' is deleted; restore it or set tracking.experiment")
    return str(found.experiment_id)


def first_line(error: Exception) -> str:
    """Return an error of MLflow in one line; it likes to append SQL and stack traces."""
    return (str(error).splitlines() or [type(error).__name__])[0][:300]


def _platform_uri(config: TrackingConfig) -> str | None:
    """Return the platform's server, whose workspace then is the one that MLflow uses."""
    platform = platform_run() if resolved_mode(config) == "injected" else None
    if platform is None:
        return None
    if platform.workspace:
        os.environ.setdefault("MLFLOW_WORKSPACE", platform.workspace)
    return platform.uri


def _configured_secret() -> str | None:
    """Name the secret that MLflow would send, from its environment or its credentials file."""
    from mlflow.utils.credentials import read_mlflow_creds

    if os.environ.get("MLFLOW_TRACKING_TOKEN"):
        return "MLFLOW_TRACKING_TOKEN"
    return "the MLflow password" if read_mlflow_creds().password else None
