"""By which policy a version is judged: a file, or that of the run that registered it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sskd_core.config.base import validate
from sskd_core.config.gate import GateConfig
from sskd_core.config.loading import read_mapping
from sskd_core.storage.store import ObjectStore
from sskd_core.tracking.registry import FINGERPRINT_TAG

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion


def policy_of(version: ModelVersion, file: Path | None, store: ObjectStore) -> GateConfig:
    """Return the policy.

    Args:
        version: that is to be judged.
        file: a YAML file with the keys of `GateConfig`; None for the policy of the version's own `register` stage, or
            the default one where there is no such stage, or it was cut off before it could commit.
        store: where the stage's manifest is.

    Raises:
        ConfigError: the file cannot be read, or a key in it is wrong.
        IntegrityError: the manifest is damaged.
    """
    if file is not None:
        return validate(GateConfig, read_mapping(file), str(file))
    uri = f"{(version.source or '').rpartition('/')[0]}/manifest.json"
    if FINGERPRINT_TAG not in version.tags or not store.exists(uri):
        return GateConfig()
    return validate(GateConfig, store.manifest(uri).config["gate"], uri)
