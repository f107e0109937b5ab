"""The records that travel between data, labels, models and evaluation. Plain values, no tensors."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypedDict


class Rle(TypedDict):
    """COCO run-length encoding: `size` is [height, width], `counts` the compressed ASCII text."""

    size: list[int]
    counts: str


@dataclass(frozen=True)
class ImageRecord:
    """One image as `prepare` found it.

    Attributes:
        image_id: unique in its split; the file name relative to the source's root.
        uri: `s3://` object that holds the original bytes.
        digest: of those bytes.
        bytes: their number.
        width: pixels as a viewer shows the image, EXIF orientation applied.
        height: likewise.
    """

    image_id: str
    uri: str
    digest: str
    bytes: int
    width: int
    height: int


@dataclass(frozen=True)
class Instance:
    """One object: annotated, predicted or pseudo-labelled.

    Attributes:
        category: class index, 0..C-1 in the order of the data set's class list.
        rle: mask at the size of the image as shown.
        score: class score times mask score, 1 for an annotation.
        class_score: probability of the class.
        mask_score: mean mask probability inside the mask.
        bbox: x, y, width, height in pixels.
        area: pixels of the mask.
        is_crowd: COCO crowd region: ignored by training, "don't care" in evaluation.
    """

    category: int
    rle: Rle
    score: float = 1.0
    class_score: float = 1.0
    mask_score: float = 1.0
    bbox: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    area: float = 0.0
    is_crowd: bool = False


@dataclass(frozen=True)
class LabeledImage:
    """An image and its instances; the list is empty when nothing was found on it."""

    image_id: str
    width: int
    height: int
    instances: list[Instance] = field(default_factory=list)
