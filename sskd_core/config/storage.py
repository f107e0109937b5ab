"""Where the bytes live: one S3-compatible endpoint and one root below which everything is written."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from sskd_core.config.address import HttpUri
from sskd_core.config.base import StrictModel

CACHE_VARIABLE = "SSKD_CACHE_DIR"
"""Environment variable with the cache's folder, for a platform that mounts a volume into its tasks."""

S3Uri = Annotated[str, Field(pattern=r"^s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/.*)?$")]


class StorageConfig(StrictModel):
    """An object store.

    Credentials are never part of it: they come from the default chain of boto3 (environment, web identity, instance
    role). `root` null means the embedded store, which `sskd services up` starts on loopback.
    """

    root: S3Uri | None = Field(None, description="prefix below which outputs are written, s3://bucket/prefix")
    endpoint_url: HttpUri | None = Field(None, description="S3 endpoint; null for AWS")
    region: str = "us-east-1"
    addressing_style: Literal["auto", "path", "virtual"] = "auto"
    checksums: Literal["when_required", "when_supported"] = Field(
        "when_required", description="botocore's checksum policy; some S3-compatible stores refuse 'when_supported'"
    )
    multipart_mb: int = Field(64, ge=5, le=5000, description="part size and threshold of multipart transfers, MiB")
    max_concurrency: int = Field(8, ge=1, le=128, description="parallel transfers of one client")
    read_roots: list[S3Uri] = Field(default_factory=list, description="further prefixes that inputs may be read from")
    cache_dir: str | None = Field(
        None, description="local cache of read objects; null for $SSKD_CACHE_DIR, else a temporary folder"
    )
    cache_gb: float = Field(20.0, gt=0, description="size bound of the local cache, GiB")
