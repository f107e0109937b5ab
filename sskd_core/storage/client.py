"""The one place that turns a `StorageConfig` into a boto3 client: addressing, checksums, retries, time-outs.

A client is made for each process: its connections must not be shared across a fork.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import boto3
from boto3.s3.transfer import TransferConfig
from botocore.config import Config

from sskd_core.config.storage import StorageConfig

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_MIB = 1 << 20
ATTEMPTS = 5
_CONNECT_SECONDS = 5
_READ_SECONDS = 60


def make_client(config: StorageConfig, attempts: int = ATTEMPTS) -> S3Client:
    """Return a client; credentials come from boto3's default chain.

    Args:
        config: the store.
        attempts: tries of a request in all; waits between them grow exponentially with jitter.
    """
    options = Config(
        s3={"addressing_style": config.addressing_style},
        request_checksum_calculation=config.checksums,
        response_checksum_validation=config.checksums,
        retries={"mode": "standard", "total_max_attempts": attempts},
        connect_timeout=_CONNECT_SECONDS,
        read_timeout=_READ_SECONDS,
        max_pool_connections=max(10, 2 * config.max_concurrency),
        tcp_keepalive=True,
    )
    # Sessions of our own, since the default one of boto3 is not safe to share between threads.
    return boto3.session.Session().client(
        "s3", endpoint_url=config.endpoint_url, region_name=config.region, config=options
    )


def transfer_config(config: StorageConfig) -> TransferConfig:
    """Return when a transfer is split into parts, and how many run at a time."""
    size = config.multipart_mb * _MIB
    return TransferConfig(
        multipart_threshold=size, multipart_chunksize=size, max_concurrency=config.max_concurrency, use_threads=True
    )


class ClientPool:
    """Hands out the client of the current process, made on first use; picklable, and safe after a fork."""

    def __init__(self, config: StorageConfig, attempts: int = ATTEMPTS) -> None:
        self._config = config
        self._attempts = attempts
        self._client: tuple[int, S3Client] | None = None

    def get(self) -> S3Client:
        """Return this process's client."""
        if self._client is None or self._client[0] != os.getpid():
            self._client = (os.getpid(), make_client(self._config, self._attempts))
        return self._client[1]

    def __reduce__(self) -> tuple[type[ClientPool], tuple[StorageConfig, int]]:
        return ClientPool, (self._config, self._attempts)
