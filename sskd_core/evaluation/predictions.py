"""The predictions of a whole split, batch by batch; masks stay run-length encoded, so memory grows with instances."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from sskd_core.data.records import ImageRecord, Instance

Predict = Callable[[list[NDArray[np.uint8]]], list[list[Instance]]]
ReadImage = Callable[[ImageRecord], NDArray[np.uint8]]


def predict_split(
    predict: Predict,
    records: Sequence[ImageRecord],
    read: ReadImage,
    batch: int,
    on_images: Callable[[int], None] | None = None,
) -> dict[str, list[Instance]]:
    """Predict every image of a split.

    Args:
        predict: RGB images -> the instances of each.
        records: the split.
        read: decodes a record's image.
        batch: images a call of `predict`; no more are in memory at a time.
        on_images: called after each batch with the number of images done.

    Returns:
        Instances by image id.
    """
    found: dict[str, list[Instance]] = {}
    for start in range(0, len(records), batch):
        chunk = records[start : start + batch]
        predicted = predict([read(record) for record in chunk])
        found |= {record.image_id: items for record, items in zip(chunk, predicted, strict=True)}
        if on_images is not None:
            on_images(start + len(chunk))
    return found
