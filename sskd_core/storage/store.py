"""The object store: every byte that a stage reads or writes goes through here.

A thin layer over boto3 that adds what boto3 leaves open: URIs held below the configured prefixes, digests checked on
read, conditional puts for the commit, bodies that break off read again, and errors of one line.
"""

from __future__ import annotations

import io
import os
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from botocore.exceptions import ClientError
from pydantic import ValidationError

from sskd_core.config.storage import CACHE_VARIABLE, StorageConfig
from sskd_core.errors import IntegrityError, StorageError
from sskd_core.storage.cache import ObjectCache, mismatch
from sskd_core.storage.client import ATTEMPTS, ClientPool, transfer_config
from sskd_core.storage.digest import digest_bytes, digest_file
from sskd_core.storage.faults import BROKEN_BODY, MissingObjectError, translated
from sskd_core.storage.manifest import Manifest, ObjectRef
from sskd_core.storage.uri import below, normalize_root

if TYPE_CHECKING:
    from collections.abc import Callable

    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import GetObjectOutputTypeDef

_T = TypeVar("_T")
_GIB = 1 << 30
_CHUNK = 1 << 20
_BINARY = "application/octet-stream"
_FIRST_WAIT_SECONDS = 0.1


@dataclass(frozen=True)
class ObjectInfo:
    """One object of a listing.

    Attributes:
        uri: its URI.
        bytes: its size.
    """

    uri: str
    bytes: int


class ObjectStore:
    """An S3-compatible store, seen from one root. Safe to share between threads, to fork and to pickle.

    Attributes:
        root: `s3://bucket/prefix` without a slash at the end; everything that is written goes below it.
        config: the configuration that it was made from.

    Args:
        config: the store; `root` must be set.
        attempts: tries of a request in all.

    Raises:
        StorageError: no root, or a malformed one.
    """

    def __init__(self, config: StorageConfig, attempts: int = ATTEMPTS) -> None:
        if config.root is None:
            raise StorageError(
                "storage.root is not set; set it to s3://bucket/prefix, or use the embedded store: sskd services up"
            )
        self.config = config
        self.root = normalize_root(config.root)
        self._readable = [self.root, *(normalize_root(prefix) for prefix in config.read_roots)]
        self._attempts = attempts
        self._clients = ClientPool(config, attempts)
        folder = config.cache_dir or os.environ.get(CACHE_VARIABLE)
        directory = Path(folder).expanduser() if folder else None
        self._cache = ObjectCache(directory, int(config.cache_gb * _GIB))

    def get(self, uri: str, digest: str | None = None) -> bytes:
        """Return the bytes of an object.

        Args:
            uri: where it is.
            digest: what its bytes must be, if known.

        Raises:
            StorageError: it does not exist, or the store failed.
            IntegrityError: other bytes.
        """
        data = self._read_body(uri, lambda answer: answer["Body"].read())
        if digest is not None:
            _verify(uri, data, digest)
        return data

    def get_if_exists(self, uri: str) -> bytes | None:
        """Return the bytes of an object, or None when there is no such object."""
        try:
            return self.get(uri)
        except MissingObjectError:
            return None

    def put(self, uri: str, data: bytes, media_type: str = _BINARY) -> None:
        """Write an object, replacing what was there."""
        bucket, key = below(uri, [self.root])
        with translated(uri, self.config):
            if len(data) < self.config.multipart_mb << 20:
                self._client.put_object(Bucket=bucket, Key=key, Body=data, ContentType=media_type)
            else:
                self._client.upload_fileobj(
                    io.BytesIO(data),
                    bucket,
                    key,
                    ExtraArgs={"ContentType": media_type},
                    Config=transfer_config(self.config),
                )

    def put_if_absent(self, uri: str, data: bytes, media_type: str = _BINARY) -> bool:
        """Write an object unless it exists; of several writers exactly one gets True.

        Returns:
            Whether this call wrote it. After a request whose answer was lost it may say False although it did.
        """
        bucket, key = below(uri, [self.root])
        with translated(uri, self.config):
            try:
                self._client.put_object(Bucket=bucket, Key=key, Body=data, ContentType=media_type, IfNoneMatch="*")
            except ClientError as error:
                if error.response["ResponseMetadata"]["HTTPStatusCode"] in (409, 412):
                    return False
                raise
        return True

    def put_output(self, name: str, uri: str, data: bytes, media_type: str = _BINARY) -> ObjectRef:
        """Write bytes and return the reference for a manifest."""
        self.put(uri, data, media_type)
        return ObjectRef(name=name, uri=uri, digest=digest_bytes(data), bytes=len(data), media_type=media_type)

    def upload_output(self, name: str, uri: str, path: Path, media_type: str = _BINARY) -> ObjectRef:
        """Upload a file in constant memory and return the reference for a manifest."""
        bucket, key = below(uri, [self.root])
        digest, size = digest_file(path), path.stat().st_size
        with translated(uri, self.config):
            self._client.upload_file(
                str(path), bucket, key, ExtraArgs={"ContentType": media_type}, Config=transfer_config(self.config)
            )
        return ObjectRef(name=name, uri=uri, digest=digest, bytes=size, media_type=media_type)

    def read(self, ref: ObjectRef) -> bytes:
        """Return the bytes of a referenced object, verified.

        Raises:
            IntegrityError: they are not those that the reference names.
        """
        return self.get(ref.uri, ref.digest)

    def fetch(self, uri: str, digest: str) -> Path:
        """Return a verified, read-only local copy; open it at once, the cache may evict it later.

        Raises:
            IntegrityError: the stored bytes are not those of `digest`.
        """
        below(uri, self._readable)
        return self._cache.fetch(uri, digest, lambda path: self._download(uri, path))

    def fetch_uri(self, uri: str) -> Path:
        """Return a read-only local copy of an object whose digest is not known, such as weights of the user's own."""
        below(uri, self._readable)
        return self._cache.fetch(uri, None, lambda path: self._download(uri, path))

    def size(self, uri: str) -> int:
        """Return the bytes that an object has.

        Raises:
            StorageError: it does not exist, or the store failed.
        """
        bucket, key = below(uri, self._readable)
        with translated(uri, self.config):
            return self._client.head_object(Bucket=bucket, Key=key)["ContentLength"]

    def exists(self, uri: str) -> bool:
        """Return whether there is an object of this name."""
        try:
            self.size(uri)
        except MissingObjectError:
            return False
        return True

    def delete(self, uri: str) -> None:
        """Delete an object; it need not exist."""
        bucket, key = below(uri, [self.root])
        with translated(uri, self.config):
            self._client.delete_object(Bucket=bucket, Key=key)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Yield the objects below a prefix, sorted by URI.

        Args:
            prefix: read as a folder: `s3://b/a` covers `s3://b/a/x`, not `s3://b/ab`.
        """
        folder = prefix.rstrip("/")
        bucket, key = below(folder, self._readable)
        found: list[ObjectInfo] = []
        with translated(prefix, self.config):
            pages = self._client.get_paginator("list_objects_v2")
            for page in pages.paginate(Bucket=bucket, Prefix=f"{key}/" if key else ""):
                found += [ObjectInfo(f"s3://{bucket}/{item['Key']}", item["Size"]) for item in page.get("Contents", [])]
        # Stores disagree on the order ('a-b' and 'a/b' swap places where folders are real), so it is made here.
        yield from sorted(found, key=lambda item: item.uri)

    def manifest(self, uri: str, digest: str | None = None) -> Manifest:
        """Read a manifest.

        Args:
            uri: where it is.
            digest: what its bytes must be, if known.

        Raises:
            IntegrityError: other bytes, or not a manifest.
        """
        data = self.get(uri, digest)
        try:
            return Manifest.model_validate_json(data)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(str(part) for part in first["loc"])
            raise IntegrityError(f"{uri} is not a manifest of this version: {where}: {first['msg']}") from None

    @property
    def _client(self) -> S3Client:
        return self._clients.get()

    def _download(self, uri: str, path: Path) -> None:
        def write(answer: GetObjectOutputTypeDef) -> None:
            if answer["ContentLength"] >= self.config.multipart_mb << 20:
                answer["Body"].close()
                bucket, key = below(uri, self._readable)
                self._client.download_file(bucket, key, str(path), Config=transfer_config(self.config))
                return
            with path.open("wb") as stream:
                while chunk := answer["Body"].read(_CHUNK):
                    stream.write(chunk)

        self._read_body(uri, write)

    def _read_body(self, uri: str, consume: Callable[[GetObjectOutputTypeDef], _T]) -> _T:
        """Request an object and consume the answer, again when its body breaks off: botocore retries requests alone."""
        bucket, key = below(uri, self._readable)
        attempt = 1
        with translated(uri, self.config):
            while True:
                answer = self._client.get_object(Bucket=bucket, Key=key)
                try:
                    return consume(answer)
                except BROKEN_BODY:
                    if attempt == self._attempts:
                        raise
                time.sleep(random.uniform(0.5, 1.0) * _FIRST_WAIT_SECONDS * 2**attempt)  # noqa: S311
                attempt += 1


def _verify(uri: str, data: bytes, digest: str) -> None:
    actual = digest_bytes(data)
    if actual != digest:
        raise mismatch(uri, digest, actual)
