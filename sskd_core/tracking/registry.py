"""The model registry: versions that carry their origin. Which of them is champion is `promotion`'s to say.

A version is identified by the fingerprint of its `register` stage, so registering twice finds the first. Its source is
a folder in the object store; no model bytes go through the tracking server.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
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
"""`passed`, `rejected` or `forced`; absent until the gate has judged."""
GATE_TAG = "sskd.gate"
FILE_TAG = "sskd.onnx"
"""`<uri> <digest>` of the ONNX file of a version."""
CHALLENGER = "challenger"
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
    """

    name: str
    source: str
    run_id: str | None
    fingerprint: str
    tags: dict[str, str]


@contextmanager
def refusals(what: str) -> Iterator[None]:
    """Turn what MLflow raises into one line.

    Raises:
        UserError: the registry refused; `what` says what was asked of it.
    """
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        raise UserError(f"cannot {what} in MLflow: {first_line(error)}") from None


def ensure_version(client: MlflowClient, wanted: Registration) -> ModelVersion:
    """Register a version as challenger unless it is there.

    Of several processes that register the same fingerprint at once all end with the same version.

    Raises:
        UserError: the registry refuses.
    """
    with refusals(f"register a version of '{wanted.name}'"):
        _ensure_model(client, wanted.name)
        if not find_versions(client, wanted.name, wanted.fingerprint):
            tags = {**wanted.tags, FINGERPRINT_TAG: wanted.fingerprint}
            client.create_model_version(wanted.name, wanted.source, run_id=wanted.run_id, tags=tags)
        first, *twins = find_versions(client, wanted.name, wanted.fingerprint)
        for twin in twins:
            _delete(client, twin)
        if VERDICT_TAG not in first.tags:
            client.set_registered_model_alias(wanted.name, CHALLENGER, first.version)
    return first


def find_versions(client: MlflowClient, name: str, fingerprint: str) -> list[ModelVersion]:
    """Return the versions of a fingerprint, the oldest first; there is one, or none."""
    found = client.search_model_versions(f"name = '{name}' and tags.`{FINGERPRINT_TAG}` = '{fingerprint}'")
    return sorted(found, key=lambda item: int(item.version))


def all_versions(client: MlflowClient, name: str) -> list[ModelVersion]:
    """Return every version of a model, the newest first."""
    found: list[ModelVersion] = []
    token: str | None = None
    while True:
        page = client.search_model_versions(f"name = '{name}'", page_token=token)
        found += page
        token = page.token
        if not token:
            return sorted(found, key=lambda item: -int(item.version))


def aliases(client: MlflowClient, name: str) -> dict[str, str]:
    """Return alias -> version number; nothing for a model that is not there."""
    from mlflow.exceptions import MlflowException

    try:
        return {alias: str(version) for alias, version in client.get_registered_model(name).aliases.items()}
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return {}
        raise


def resolve(client: MlflowClient, name: str, reference: str) -> ModelVersion:
    """Return a version.

    Args:
        client: of the registry.
        name: the model that is meant where the reference names none.
        reference: an alias, a number, `models:/NAME@ALIAS` or `models:/NAME/VERSION`.

    Raises:
        UserError: there is no such version.
    """
    from mlflow.exceptions import MlflowException

    match = _MODEL_URI.fullmatch(reference)
    if match is None and reference.startswith("models:"):
        raise UserError(f"'{reference}' does not name a version; give models:/NAME@ALIAS or models:/NAME/VERSION")
    model = match["name"] if match else name
    number = match["version"] if match else reference if reference.isdecimal() else None
    alias = match["alias"] if match else reference
    try:
        if number is not None:
            return client.get_model_version(model, number)
        return client.get_model_version_by_alias(model, alias)
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise UserError(f"MLflow does not answer for {reference}: {first_line(error)}") from None
    what = f"version {number}" if number is not None else f"version with the alias '{alias}'"
    raise UserError(f"model '{model}' has no {what}; `sskd models list` shows what there is")


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
    version = resolve(connect(tracking, store.config), tracking.registered_model, uri)
    if FILE_TAG not in version.tags:
        raise UserError(f"{uri} was not registered by sskd: it has no tag '{FILE_TAG}'")
    file_uri, digest = version.tags[FILE_TAG].split(" ")
    return store.fetch(file_uri, digest).read_bytes()


def set_tags(client: MlflowClient, version: ModelVersion, tags: dict[str, str]) -> None:
    """Set those tags of a version that differ."""
    for key, value in tags.items():
        if version.tags.get(key) != value:
            client.set_model_version_tag(version.name, version.version, key, value)


def _ensure_model(client: MlflowClient, name: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _delete(client: MlflowClient, version: ModelVersion) -> None:
    """Delete a version that a twin may be deleting, too."""
    from mlflow.exceptions import MlflowException

    try:
        client.delete_model_version(version.name, version.version)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
