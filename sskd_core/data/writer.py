"""The write side of a prepared data set: shards of the index and of the ground truth, a few thousand images each.

Records are handed in one by one and leave memory with their shard.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from sskd_core.data.dataset import SHARD_LIST, ShardList, ground_truth_prefix, images_prefix
from sskd_core.data.index import encode_index
from sskd_core.data.records import ImageRecord, LabeledImage
from sskd_core.data.table import TableFormat
from sskd_core.labels.schema import encode_shard
from sskd_core.storage.digest import canonical_json, digest_json
from sskd_core.storage.manifest import ObjectRef
from sskd_core.storage.store import ObjectStore

LABELLER = "ground_truth"
MAX_LISTED = 100
"""More shards than this are listed in an object of their own; a manifest has to stay below 100 KB."""


class DatasetWriter:
    """Writes the shards of all splits below one prefix.

    Args:
        store: where to.
        prefix: of the stage's result, without a slash at the end.
        shard_images: images a shard.
        kept: shards of an earlier data set that this one goes on from; the new ones are numbered after them.
    """

    def __init__(self, store: ObjectStore, prefix: str, shard_images: int, kept: Sequence[ObjectRef] = ()) -> None:
        self._store = store
        self._prefix = prefix
        self._shard_images = shard_images
        self._refs: list[ObjectRef] = list(kept)
        self._pending: list[ImageRecord] = []
        self._pending_labels: list[LabeledImage] = []
        self._written = Counter(ref.name.split("/")[1] for ref in kept if ref.name.startswith("images/"))

    def add(self, split: str, record: ImageRecord, labels: LabeledImage | None = None) -> None:
        """Add an image; all images of a split come one after the other, followed by `close_split`.

        Args:
            split: which one.
            record: the image.
            labels: its annotation, in a labelled split.
        """
        self._pending.append(record)
        if labels is not None:
            self._pending_labels.append(labels)
        if len(self._pending) == self._shard_images:
            self._flush(split)

    def close_split(self, split: str) -> str:
        """Write what is left of a split.

        Returns:
            The digest of the split: of its shards' digests.
        """
        if self._pending:
            self._flush(split)
        return digest_json([ref.digest for ref in self._refs if ref.name.split("/")[1] == split])

    def outputs(self) -> list[ObjectRef]:
        """Return what the manifest lists: the shards, or one object that lists them when they are many."""
        if len(self._refs) <= MAX_LISTED:
            return self._refs
        data = canonical_json(ShardList(outputs=self._refs).model_dump(mode="json"))
        return [self._store.put_output(SHARD_LIST, f"{self._prefix}/index.json", data, "application/json")]

    def _flush(self, split: str) -> None:
        number = f"{self._written[split]:05d}"
        self._put(images_prefix(split) + number, encode_index(self._pending))
        if self._pending_labels:
            labels = encode_shard(self._pending_labels, labeller=LABELLER)
            self._put(ground_truth_prefix(split) + number, labels)
        self._pending, self._pending_labels = [], []
        self._written[split] += 1

    def _put(self, name: str, data: bytes) -> None:
        uri = f"{self._prefix}/{name}.parquet"
        self._refs.append(self._store.put_output(name, uri, data, TableFormat.media_type))
