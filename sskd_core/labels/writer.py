"""Writing label shards, and finding those that are there.

A shard is committed by its record: the Parquet object goes first, under a name that holds its digest; the
record `statistics/NNNNN.json`, which names it, goes last and only if no twin was first. So every record
stands for a whole shard, also when a worker was killed or two of them wrote the same one.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor

from pydantic import ValidationError

from sskd_core.config.base import StrictModel
from sskd_core.data.records import LabeledImage
from sskd_core.errors import IntegrityError
from sskd_core.labels.schema import MEDIA_TYPE, encode_shard
from sskd_core.labels.statistics import LabelStatistics
from sskd_core.storage.digest import canonical_json, digest_bytes
from sskd_core.storage.manifest import ObjectRef
from sskd_core.storage.store import ObjectStore

_RECORD_TYPE = "application/json"
READERS = 16
"""Records that are read at a time: of a hundred thousand small objects each costs a request."""

WORKERS = "workers"
"""Folder below a stage's prefix in which each labelling worker leaves its own manifest."""


class ShardRecord(StrictModel):
    """What stands beside a shard.

    Attributes:
        index: number of the shard.
        shard: the Parquet object.
        statistics: figures of its labels.
    """

    index: int
    shard: ObjectRef
    statistics: LabelStatistics


def shard_count(images: int, shard_images: int) -> int:
    """Return how many shards hold `images` images; shard i holds those from `i * shard_images` on."""
    return -(-images // shard_images)


class ShardSet:
    """The shards below one stage prefix.

    Args:
        store: the object store.
        prefix: of the stage's outputs.
    """

    def __init__(self, store: ObjectStore, prefix: str) -> None:
        self._store = store
        self._prefix = prefix

    def finished(self, indices: Collection[int]) -> dict[int, ShardRecord]:
        """Return the records of those of the given shards that are committed.

        Raises:
            IntegrityError: a record cannot be read.
        """
        sizes = {info.uri: info.bytes for info in self._store.list(f"{self._prefix}/shards/")}
        listed = {info.uri for info in self._store.list(f"{self._prefix}/statistics/")}
        there = [index for index in sorted(indices) if self._record_uri(index) in listed]
        with ThreadPoolExecutor(READERS, thread_name_prefix="records") as pool:
            records = list(pool.map(self._read, there))
        return {item.index: item for item in records if sizes.get(item.shard.uri) == item.shard.bytes}

    def write(
        self, index: int, images: Sequence[LabeledImage], labeller: str, statistics: LabelStatistics
    ) -> ShardRecord:
        """Write and commit one shard.

        Args:
            index: number of the shard.
            images: its labels, in the order of the data set's index.
            labeller: see `encode_shard`.
            statistics: their figures.

        Returns:
            The record that stands: this one, or that of a twin that was first.
        """
        data = encode_shard(images, labeller)
        short = digest_bytes(data).removeprefix("sha256:")[:12]
        uri = f"{self._prefix}/shards/{index:05d}-{short}.parquet"
        shard = self._store.put_output(f"shards/{index:05d}", uri, data, MEDIA_TYPE)
        record = ShardRecord(index=index, shard=shard, statistics=statistics)
        encoded = canonical_json(record.model_dump(mode="json"))
        if not self._store.put_if_absent(self._record_uri(index), encoded, _RECORD_TYPE):
            earlier = self._read(index)
            if self._store.exists(earlier.shard.uri):
                return earlier
            # Somebody deleted the shard and left its record: this shard takes the place.
            self._store.put(self._record_uri(index), encoded, _RECORD_TYPE)
        return record

    def _record_uri(self, index: int) -> str:
        return f"{self._prefix}/statistics/{index:05d}.json"

    def _read(self, index: int) -> ShardRecord:
        uri = self._record_uri(index)
        try:
            return ShardRecord.model_validate_json(self._store.get(uri))
        except ValidationError:
            raise IntegrityError(f"{uri}: not a shard record of this release; delete it to label again") from None
