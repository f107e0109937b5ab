from __future__ import annotations

import pickle

import pytest

from sskd_core.config.storage import StorageConfig
from sskd_core.storage.client import ClientPool, make_client, transfer_config

CONFIG = StorageConfig(root="s3://bucket/x", endpoint_url="http://127.0.0.1:9", region="eu-west-1")


@pytest.fixture(autouse=True)
def _keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")


def test_configuration_reaches_the_client() -> None:
    config = CONFIG.model_copy(update={"addressing_style": "virtual", "checksums": "when_supported"})
    options = make_client(config, attempts=3).meta.config
    assert options.s3["addressing_style"] == "virtual"
    assert options.request_checksum_calculation == options.response_checksum_validation == "when_supported"
    assert options.retries["total_max_attempts"] == 3
    assert options.region_name == "eu-west-1"


def test_time_outs_are_bounded() -> None:
    options = make_client(CONFIG).meta.config
    assert options.connect_timeout + options.read_timeout <= 120


def test_parts() -> None:
    config = transfer_config(CONFIG.model_copy(update={"multipart_mb": 7, "max_concurrency": 3}))
    assert config.multipart_threshold == config.multipart_chunksize == 7 << 20
    assert config.max_request_concurrency == 3


def test_one_client_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = ClientPool(CONFIG)
    first = pool.get()
    assert pool.get() is first
    monkeypatch.setattr("os.getpid", lambda: -1)
    assert pool.get() is not first


def test_a_copy_makes_its_own_client() -> None:
    pool = ClientPool(CONFIG, attempts=2)
    pool.get()
    copy = pickle.loads(pickle.dumps(pool))
    assert copy.get() is not pool.get()
    assert copy.get().meta.config.retries["total_max_attempts"] == 2
