"""From images and labels to training batches.

A batch is a pure function of (seed, stream, step): no state to save, nothing that a number of workers could change.
Threads prepare the batches ahead; decoding and resizing release the interpreter lock.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from threading import Lock
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sskd_core.config.model import InputConfig
from sskd_core.config.train import AugmentConfig
from sskd_core.data.augment import weak_view
from sskd_core.data.masks import decode_mask
from sskd_core.data.records import ImageRecord, Instance, LabeledImage
from sskd_core.data.sampling import EndlessSampler, generator
from sskd_core.distributed import group
from sskd_core.errors import DataError

_CACHE_BYTES = 1 << 30
_MIN_PIXELS = 4


@dataclass
class Example:
    """One image with its instances.

    Attributes:
        image: RGB, [h, w, 3].
        labels: class index of each instance.
        masks: [n, h, w].
    """

    image: NDArray[np.uint8]
    labels: list[int]
    masks: NDArray[np.bool_]


class Examples(Protocol):
    """A finite, indexable set of examples; reading one twice gives the same."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Example: ...


@dataclass
class Batch:
    """What a step trains on.

    Attributes:
        pixels: [B, 3, H, W], normalised.
        labels: per image, [n] int64.
        masks: per image, [n, H, W] float 0 or 1.
        content: per image, the (height, width) at the top left that is image and not padding.
        first: place of the first image in the batch of all processes.
    """

    pixels: Tensor
    labels: list[Tensor]
    masks: list[Tensor]
    content: list[tuple[int, int]]
    first: int = 0

    @property
    def instances(self) -> int:
        """Number of instances in the batch."""
        return sum(len(item) for item in self.labels)


class LabeledExamples:
    """Images of one split joined with labels; decoded images are kept in memory up to a bound.

    Args:
        records: the images.
        labels: by image id; an image without an entry is an error, one with an empty list is a negative.
        read: decodes a record's image.

    Raises:
        DataError: no image, or an image without labels.
    """

    def __init__(
        self,
        records: list[ImageRecord],
        labels: Mapping[str, LabeledImage],
        read: Callable[[ImageRecord], NDArray[np.uint8]],
    ) -> None:
        if not records:
            raise DataError("no image to train on in this split; check the data section")
        missing = [record.image_id for record in records if record.image_id not in labels]
        if missing:
            raise DataError(
                f"{len(missing)} images have no labels, for instance '{missing[0]}'; "
                "were the labels made for this data set?"
            )
        self._records = records
        self._labels = labels
        self._read = read
        self._cache: OrderedDict[int, NDArray[np.uint8]] = OrderedDict()
        self._cached_bytes = 0
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> Example:
        record = self._records[index]
        image = self._image(index)
        # Crowd regions stand for an unknown number of objects; a set loss cannot use them.
        instances: list[Instance] = [item for item in self._labels[record.image_id].instances if not item.is_crowd]
        masks = [decode_mask(item.rle) for item in instances]
        stacked = np.stack(masks) if masks else np.zeros((0, record.height, record.width), dtype=np.bool_)
        return Example(image, [item.category for item in instances], stacked)

    def _image(self, index: int) -> NDArray[np.uint8]:
        with self._lock:
            if index in self._cache:
                self._cache.move_to_end(index)
                return self._cache[index]
        image = self._read(self._records[index])
        with self._lock:
            if index not in self._cache:
                self._cache[index] = image
                self._cached_bytes += image.nbytes
            while self._cached_bytes > _CACHE_BYTES:
                self._cached_bytes -= self._cache.popitem(last=False)[1].nbytes
        return image


class BatchLoader:
    """Serves the batch of any step: in one of several processes, its part of it.

    Which images a step has, and how each is augmented, does not depend on the number of processes.

    Args:
        examples: what to draw from.
        batch: images a step, in all processes together.
        size: network input.
        augment: the weak view.
        seed: the run's seed.
        stream: name of this loader, so that two loaders of a run draw independently.
        workers: threads that prepare batches ahead; 0 prepares them on demand.
        frequencies: how often each example is drawn, relative to the others; None for equally often.

    Raises:
        ConfigError: the batch cannot be divided among the processes.
    """

    def __init__(
        self,
        examples: Examples,
        batch: int,
        size: InputConfig,
        augment: AugmentConfig,
        seed: int,
        stream: str,
        workers: int = 0,
        frequencies: Sequence[float] | None = None,
    ) -> None:
        self._examples = examples
        self._part = group.own_part(batch, f"{stream}_batch")
        self._sampler = EndlessSampler(len(examples), batch, seed, stream, frequencies)
        self._size, self._augment, self._seed, self._stream = size, augment, seed, stream
        self._ahead = 2 * workers
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix=f"loader-{stream}") if workers else None
        self._pending: dict[int, Future[Batch]] = {}

    def batch(self, step: int) -> Batch:
        """Return the batch of a step, counted from 0."""
        if self._pool is None:
            return self._make(self._sampler.indices(step), step)
        for ahead in range(step, step + self._ahead + 1):
            if ahead not in self._pending:
                indices = self._sampler.indices(ahead)
                self._pending[ahead] = self._pool.submit(self._make, indices, ahead)
        return self._pending.pop(step).result()

    def close(self) -> None:
        """Stop the threads."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def _make(self, indices: list[int], step: int) -> Batch:
        pixels, labels, masks, contents = [], [], [], []
        for place, index in list(enumerate(indices))[self._part]:
            example = self._examples[index]
            rng = generator(self._seed, "augment", self._stream, step, place)
            view, view_masks, content = weak_view(
                torch.from_numpy(np.ascontiguousarray(example.image.transpose(2, 0, 1))),
                torch.from_numpy(example.masks),
                self._size,
                self._augment,
                rng,
            )
            # What the crop left almost nothing of cannot be found and would only add noise.
            least = _MIN_PIXELS if self._augment.drop_empty_targets else 0
            kept = view_masks.flatten(1).sum(1) >= least
            pixels.append(view)
            labels.append(torch.tensor(example.labels, dtype=torch.int64)[kept])
            masks.append(view_masks[kept].float())
            contents.append(content)
        return Batch(torch.stack(pixels), labels, masks, contents, self._part.start)
