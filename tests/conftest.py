"""Fixtures that many tests share: a real object store, and a root in it for each test."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from sskd_core.config.storage import StorageConfig
from sskd_core.services.embedded import embedded
from sskd_core.storage.store import ObjectStore

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
