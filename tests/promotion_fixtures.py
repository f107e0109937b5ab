"""Students that are registered and nothing more."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from finished_pipeline import FinishedPipeline, tiny_onnx
from mlflow.tracking import MlflowClient

from sskd_core.storage.store import ObjectStore
from sskd_core.tracking.candidate import MANIFEST_TAG, ORIGINS
from sskd_core.tracking.registry import FILE_TAG, Registration, ensure_version

NAME = "sskd-student"


def register(client: MlflowClient, store: ObjectStore, name: str, refined: float, more: Mapping[str, str] = {}) -> Any:
    """Register a student that finds its object on so many of 100 test images; return its version."""
    inputs = FinishedPipeline(store, refined=refined, name=name).register_inputs()
    file = store.put_output("onnx", f"{store.root}/{name}.onnx", tiny_onnx(refined))
    tags = {f"{MANIFEST_TAG}{key}": f"{inputs[key].uri} {inputs[key].digest}" for key in ORIGINS}
    tags |= {FILE_TAG: f"{file.uri} {file.digest}", **more}
    return ensure_version(client, Registration(NAME, f"{store.root}/{name}/model", None, f"sha256:{name}", tags))
