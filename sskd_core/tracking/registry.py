"""The model registry: versions that carry their origin, and aliases that move only for a passed gate.

A version is identified by the fingerprint of its `register` stage, so registering twice finds the first. Its source is
a folder in the object store; no model bytes go through the tracking server.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sskd_core.config.tracking import TrackingConfig
from sskd_core.errors import UserError
from sskd_core.storage.store import ObjectStore
from sskd_core.tracking.client import connect, first_line

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion
    from mlflow.tracking import MlflowClient

FINGERPRINT_TAG = "sskd.fingerprint"
VERDICT_TAG = "sskd.verdict"
PROMOTED_TAG = "sskd.promoted"
"""Set once the alias has been moved to a version, so that it is moved once and not each time the stage is found."""
FILE_TAG = "sskd.onnx"
"""`<uri> <digest>` of the ONNX file of a version."""
PREVIOUS = "previous"
_MODEL_URI = re.compile(r"models:/(?P<name>[^/@]+)(?:@(?P<alias>[^/@]+)|/(?P<version>\d+))")


@dataclass(frozen=True)
class Registration:
    """What is registered.

    Attributes:
        name: of the registered model.
        source: `s3://` folder in MLflow's ONNX format.
        run_id: MLflow run that made it, or None.
        fingerprint: of the `register` stage.
        tags: origin, figures, licences.
        alias: to be moved to this version; None for one that the gate rejected.
    """

    name: str
    source: str
    run_id: str | None
    fingerprint: str
    tags: dict[str, str]
    alias: str | None


def ensure_registered(client: MlflowClient, wanted: Registration) -> str:
    """Register a version unless it is there, and let the alias follow the gate, once.

    Returns:
        The version number.

    Raises:
        UserError: the registry refuses.
    """
    from mlflow.exceptions import MlflowException

    try:
        _ensure_model(client, wanted.name)
        version = _find(client, wanted) or _create(client, wanted)
        number = str(version.version)
        if wanted.alias is not None and PROMOTED_TAG not in version.tags:
            promote(client, wanted.name, number, wanted.alias)
            client.set_model_version_tag(wanted.name, number, PROMOTED_TAG, wanted.alias)
    except MlflowException as error:
        raise UserError(f"cannot register a version of '{wanted.name}' in MLflow: {first_line(error)}") from None
    return number


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
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise


def read_model(uri: str, tracking: TrackingConfig, store: ObjectStore) -> bytes:
    """Return the ONNX file of a registered version, verified.

    Args:
        uri: `models:/NAME@ALIAS` or `models:/NAME/VERSION`.
        tracking: whose registry; tracking may otherwise be off.
        store: where the file lives.

    Raises:
        UserError: a malformed URI, no such version, or a version that another tool registered.
        IntegrityError: the stored file is not the one that was registered.
    """
    from mlflow.exceptions import MlflowException

    match = _MODEL_URI.fullmatch(uri)
    if match is None:
        raise UserError(f"'{uri}' does not name a version; give models:/NAME@ALIAS or models:/NAME/VERSION")
    client = connect(tracking, store.config)
    try:
        if match["alias"] is not None:
            version = client.get_model_version_by_alias(match["name"], match["alias"])
        else:
            version = client.get_model_version(match["name"], match["version"])
    except MlflowException as error:
        raise UserError(f"the registry has no {uri}: {first_line(error)}") from None
    if FILE_TAG not in version.tags:
        raise UserError(f"{uri} was not registered by sskd: it has no tag '{FILE_TAG}'")
    file_uri, digest = version.tags[FILE_TAG].split(" ")
    return store.fetch(file_uri, digest).read_bytes()


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


def _create(client: MlflowClient, wanted: Registration) -> ModelVersion:
    verdict = "rejected" if wanted.alias is None else "passed"
    tags = {**wanted.tags, FINGERPRINT_TAG: wanted.fingerprint, VERDICT_TAG: verdict}
    return client.create_model_version(wanted.name, wanted.source, run_id=wanted.run_id, tags=tags)
