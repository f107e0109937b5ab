"""What COCO's matching said of every image, small enough to keep: AP can be computed again from it, on any choice of
images and without a mask.

A file of them stands beside each evaluation, so that two models can be compared image by image long after both ran.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from sskd_core.data.records import LabeledImage
from sskd_core.data.table import TableFormat

THRESHOLDS = 10
"""IoU thresholds 0.50, 0.55, ..., 0.95; threshold t is bit t of the masks below."""
MEDIA_TYPE = TableFormat.media_type
MATCHES = "matches/"
"""Outputs `matches/<model>` of an evaluation hold what a model found on each image."""

_FORMAT = TableFormat(
    kind="match records",
    version=1,
    schema=pa.schema(
        [
            pa.field("image_id", pa.string(), nullable=False),
            pa.field("category", pa.int32()),
            pa.field("truths", pa.int32(), nullable=False),
            pa.field("scores", pa.list_(pa.float64()), nullable=False),
            pa.field("matched", pa.list_(pa.int32()), nullable=False),
            pa.field("ignored", pa.list_(pa.int32()), nullable=False),
        ]
    ),
    repeating=("image_id", "category"),
)


@dataclass(frozen=True)
class ClassMatches:
    """One class on one image.

    Attributes:
        category: class index.
        truths: annotated objects that count, crowd regions left out.
        scores: of the detections that count, best first.
        matched: of each detection, at which thresholds it found an object (bit mask).
        ignored: likewise, at which thresholds it neither counts as right nor as wrong.
    """

    category: int
    truths: int
    scores: Sequence[float] = ()
    matched: Sequence[int] = ()
    ignored: Sequence[int] = ()


SplitMatches = Mapping[str, Sequence[ClassMatches]]
"""Image id -> its classes, in the order of the split; every image of the split is there, also one with nothing."""


def truths_alone(truth: Mapping[str, LabeledImage]) -> dict[str, list[ClassMatches]]:
    """Return the matches of a model that found nothing."""
    return {image_id: [ClassMatches(*item) for item in _count(image)] for image_id, image in truth.items()}


def encode_matches(matches: SplitMatches) -> bytes:
    """Encode as a Parquet file; equal matches give equal bytes."""
    return _FORMAT.encode(_rows(matches))


def decode_matches(data: bytes, where: str) -> dict[str, list[ClassMatches]]:
    """Decode a file that `encode_matches` made.

    Args:
        data: the file.
        where: URI of the object, for the message.

    Raises:
        IntegrityError: not match records, another version, or damaged.
    """
    found: dict[str, list[ClassMatches]] = {}
    for row in _FORMAT.decode(data, where):
        image = found.setdefault(row.pop("image_id"), [])
        if row["category"] is not None:
            image.append(ClassMatches(**row))
    return found


def _rows(matches: SplitMatches) -> Iterator[dict[str, object]]:
    nothing: dict[str, object] = {"category": None, "truths": 0, "scores": [], "matched": [], "ignored": []}
    for image_id, classes in matches.items():
        for values in [vars(item) for item in classes] or [nothing]:
            yield {"image_id": image_id, **values}


def _count(image: LabeledImage) -> Iterable[tuple[int, int]]:
    counted = [item.category for item in image.instances if not item.is_crowd]
    return ((category, counted.count(category)) for category in sorted(set(counted)))
