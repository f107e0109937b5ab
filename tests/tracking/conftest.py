"""A client of the test's own MLflow store, and what goes with it."""

from __future__ import annotations

from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from sskd_core.config.storage import StorageConfig
from sskd_core.config.tracking import TrackingConfig
from sskd_core.tracking.client import connect

STORAGE = StorageConfig(root="s3://sskd/test")


@pytest.fixture
def storage() -> StorageConfig:
    """A store that is named and not reached."""
    return STORAGE


@pytest.fixture
def client(tracking: TrackingConfig) -> MlflowClient:
    """A client of the store behind `tracking`."""
    return connect(tracking, STORAGE)


@pytest.fixture(autouse=True)
def _no_credentials_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """MLflow reads a password from the home directory."""
    monkeypatch.setenv("HOME", str(tmp_path))
