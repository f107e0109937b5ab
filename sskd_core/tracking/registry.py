"""The model registry: versions that carry their origin, and aliases that move only for a passed gate.

A version is identified by the fingerprint of its `register` stage, so registering twice finds the first. Its source is
a folder in the object store; no model bytes go through the tracking server.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion
    from mlflow.tracking import MlflowClient

FINGERPRINT_TAG = "sskd.fingerprint"
PREVIOUS = "previous"


@dataclass(frozen=True)
class Registration:
    """What is registered.

    Attributes:
        name: of the registered model.
        source: `s3://` folder in MLflow's ONNX format.
        run_id: MLflow run that made it, or None.
        fingerprint: of the `register` stage.
        tags: origin, figures, licences.
        passed: the gate's verdict.
        alias: moved to this version when the gate passed.
    """

    name: str
    source: str
    run_id: str | None
    fingerprint: str
    tags: dict[str, str]
    passed: bool
    alias: str


def ensure_registered(client: MlflowClient, wanted: Registration) -> str:
    """Register a version unless it is there, and let the alias follow the gate.

    A version that is found keeps its place: if the alias has moved on since, it is not moved back.

    Returns:
        The version number.
    """
    _ensure_model(client, wanted.name)
    existing = _find(client, wanted)
    if existing is not None:
        return str(existing.version)
    tags = {
        **wanted.tags,
        FINGERPRINT_TAG: wanted.fingerprint,
        "sskd.verdict": "passed" if wanted.passed else "rejected",
    }
    version = client.create_model_version(wanted.name, wanted.source, run_id=wanted.run_id, tags=tags).version
    if wanted.passed:
        promote(client, wanted.name, str(version), wanted.alias)
    return str(version)


def promote(client: MlflowClient, name: str, version: str, alias: str) -> None:
    """Point `alias` at a version; the version that had it becomes `previous`."""
    current = version_of(client, name, alias)
    if current is not None and str(current.version) == version:
        return
    if current is not None:
        client.set_registered_model_alias(name, PREVIOUS, current.version)
    client.set_registered_model_alias(name, alias, version)


def version_of(client: MlflowClient, name: str, alias: str) -> ModelVersion | None:
    """Return the version that an alias points at, or None."""
    from mlflow.exceptions import MlflowException

    try:
        return client.get_model_version_by_alias(name, alias)
    except MlflowException:
        return None


def _ensure_model(client: MlflowClient, name: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _find(client: MlflowClient, wanted: Registration) -> ModelVersion | None:
    found = client.search_model_versions(
        f"name = '{wanted.name}' and tags.`{FINGERPRINT_TAG}` = '{wanted.fingerprint}'"
    )
    return found[0] if found else None
