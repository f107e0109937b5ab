"""Fixtures that many tests share: a real object store, a root in it for each test, and a real MLflow store."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from sskd_core.config.storage import StorageConfig
from sskd_core.config.tracking import TrackingConfig
from sskd_core.services.embedded import embedded
from sskd_core.storage.store import ObjectStore
from sskd_core.tracking.embedded import embedded_uri

# A first call imports and warms up; how long an example takes says nothing about the code under test.
settings.register_profile("sskd", deadline=None)
settings.load_profile("sskd")


@pytest.fixture(scope="session")
def s3_endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StorageConfig]:
    """A running SeaweedFS whose credentials are in the environment; the root is the bare bucket."""
    with embedded(tmp_path_factory.mktemp("object-store")) as config:
        yield config.model_copy(update={"root": "s3://sskd"})


@pytest.fixture
def store(s3_endpoint: StorageConfig, tmp_path: Path) -> ObjectStore:
    """An object store with a root and a cache of the test's own."""
    root = f"{s3_endpoint.root}/test-{uuid.uuid4().hex}"
    return ObjectStore(s3_endpoint.model_copy(update={"root": root, "cache_dir": str(tmp_path / "object-cache")}))


@pytest.fixture(scope="session")
def migrated_mlflow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow store whose tables are made, which takes MLflow seconds; tests copy the file."""
    from sskd_core.tracking.client import connect

    folder = tmp_path_factory.mktemp("mlflow")
    connect(TrackingConfig(uri=embedded_uri(folder)), StorageConfig())
    return folder / "mlflow.db"


@pytest.fixture
def tracking(migrated_mlflow: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TrackingConfig:
    """Tracking in an empty MLflow store of the test's own, without what a platform or a user may have set."""
    for name in [name for name in os.environ if name.startswith("MLFLOW_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    uri = embedded_uri(tmp_path / "mlflow")
    shutil.copy(migrated_mlflow, tmp_path / "mlflow" / "mlflow.db")
    return TrackingConfig(uri=uri)


@pytest.fixture(scope="session")
def teacher_parts(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Folders with a tiny detector and a tiny segmenter, as `transformers` saves them."""
    from grounding_fixtures import save_detector, save_segmenter

    folder = tmp_path_factory.mktemp("teacher-parts")
    return save_detector(folder / "detector"), save_segmenter(folder / "segmenter")
