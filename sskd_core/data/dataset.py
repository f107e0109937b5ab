"""The read side of a prepared data set: classes, images, ground truth, pixels.

Everything comes from the objects that the manifest of `prepare` names, each verified against its digest. Shards are
read when they are first asked for, and images through the store's local cache.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from sskd_core.config.base import StrictModel
from sskd_core.data.images import MAX_PIXELS, decode_image
from sskd_core.data.index import decode_index
from sskd_core.data.records import ImageRecord, LabeledImage
from sskd_core.errors import IntegrityError
from sskd_core.labels.schema import decode_shard
from sskd_core.storage.manifest import Manifest, ObjectRef
from sskd_core.storage.store import ObjectStore

STAGE = "prepare"
SPLITS = ("labeled", "unlabeled", "val", "test")
LABELED_SPLITS = ("labeled", "val", "test")
SHARD_LIST = "index"
"""The output that lists the shards of a data set that has too many for its manifest."""


class ShardList(StrictModel):
    """The shards of a data set, as the manifest would list them."""

    outputs: list[ObjectRef]


def images_prefix(split: str) -> str:
    """Return how the output names of a split's index shards start."""
    return f"images/{split}/"


def ground_truth_prefix(split: str) -> str:
    """Return how the output names of a split's ground-truth shards start."""
    return f"ground_truth/{split}/"


class Dataset:
    """A data set that `prepare` has committed.

    Attributes:
        classes: class names; the index of a name is the category of its instances.
        counts: split -> `images`, and for the labelled splits `instances`.
        class_histogram: class name -> instances of the labelled split.
        shards: all that it consists of.

    Args:
        manifest: of `prepare`.
        shards: its shards.
        store: reads them.
    """

    def __init__(self, manifest: Manifest, shards: list[ObjectRef], store: ObjectStore) -> None:
        self.classes: list[str] = list(manifest.facts["classes"])
        self.counts: Mapping[str, Mapping[str, int]] = manifest.facts["counts"]
        self.class_histogram: Mapping[str, int] = manifest.facts["class_histogram"]
        self._max_pixels = int(manifest.config.get("data", {}).get("max_pixels", MAX_PIXELS))
        self.shards = shards
        self._store = store
        self._images: dict[str, list[ImageRecord]] = {}
        self._ground_truth: dict[str, dict[str, LabeledImage]] = {}

    @classmethod
    def load(cls, manifest: Manifest, store: ObjectStore) -> Dataset:
        """Open the data set of a manifest.

        Raises:
            IntegrityError: the manifest is not one of `prepare`, or its shard list is damaged.
        """
        missing = {"classes", "counts", "class_histogram"} - set(manifest.facts)
        if manifest.stage != STAGE or missing:
            raise IntegrityError(f"{manifest.uri}: a manifest of '{manifest.stage}', not of '{STAGE}'; wrong manifest?")
        return cls(manifest, _shards(manifest, store), store)

    def images(self, split: str) -> list[ImageRecord]:
        """Return the images of a split in the order of the index.

        Args:
            split: one of `SPLITS`.

        Raises:
            IntegrityError: a shard is damaged, or one is missing.
        """
        if split not in self._images:
            records = [
                record
                for ref in self._named(images_prefix(split))
                for record in decode_index(self._store.read(ref), ref.uri)
            ]
            self._check_count(split, len(records))
            self._images[split] = records
        return self._images[split]

    def ground_truth(self, split: str) -> dict[str, LabeledImage]:
        """Return the annotations of a labelled split by image id; an image without an object has an empty list.

        Args:
            split: one of `LABELED_SPLITS`.

        Raises:
            ValueError: the split has no annotations by definition.
            IntegrityError: a shard is damaged, or one is missing.
        """
        if split not in LABELED_SPLITS:
            raise ValueError(f"split '{split}' has no ground truth; one of {', '.join(LABELED_SPLITS)} has")
        if split not in self._ground_truth:
            labels = [
                image
                for ref in self._named(ground_truth_prefix(split))
                for image in decode_shard(self._store.read(ref), ref.uri)
            ]
            self._check_count(split, len(labels))
            self._ground_truth[split] = {image.image_id: image for image in labels}
        return self._ground_truth[split]

    def read_image(self, record: ImageRecord) -> NDArray[np.uint8]:
        """Return the pixels of an image, RGB [height, width, 3], as a viewer shows them.

        Raises:
            IntegrityError: the stored bytes are not those that `prepare` read.
        """
        data = self._store.fetch(record.uri, record.digest).read_bytes()
        return decode_image(data, record.uri, self._max_pixels)

    def _named(self, prefix: str) -> list[ObjectRef]:
        return sorted((ref for ref in self.shards if ref.name.startswith(prefix)), key=lambda ref: ref.name)

    def _check_count(self, split: str, found: int) -> None:
        expected = self.counts[split]["images"]
        if found != expected:
            raise IntegrityError(f"the shards of split '{split}' hold {found} images, the manifest says {expected}")


def _shards(manifest: Manifest, store: ObjectStore) -> list[ObjectRef]:
    listed = [ref for ref in manifest.outputs if ref.name == SHARD_LIST]
    if not listed:
        return manifest.outputs
    try:
        return ShardList.model_validate_json(store.read(listed[0])).outputs
    except ValidationError as error:
        raise IntegrityError(f"{listed[0].uri}: not a list of shards ({error.error_count()} errors)") from None
