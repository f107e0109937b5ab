"""The format of a label shard: Parquet, zstd, one row an instance, and one row for an image without any.

Equal labels give equal bytes, so a shard's digest stands for its labels. Decoding checks the table and the
grouping of its rows before a record is built.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

import pyarrow as pa

from sskd_core.data.records import Instance, LabeledImage, Rle
from sskd_core.data.table import TableFormat
from sskd_core.errors import IntegrityError

SCHEMA = pa.schema(
    [
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("width", pa.int32(), nullable=False),
        pa.field("height", pa.int32(), nullable=False),
        pa.field("category", pa.int32()),
        pa.field("class_score", pa.float64()),
        pa.field("mask_score", pa.float64()),
        pa.field("score", pa.float64()),
        pa.field("bbox_x", pa.float64()),
        pa.field("bbox_y", pa.float64()),
        pa.field("bbox_width", pa.float64()),
        pa.field("bbox_height", pa.float64()),
        pa.field("area", pa.float64()),
        pa.field("is_crowd", pa.bool_()),
        pa.field("rle_counts", pa.binary()),
        pa.field("labeller", pa.string(), nullable=False),
    ]
)
"""The columns; those of the instance are null in the row of an image without any."""

MEDIA_TYPE = TableFormat.media_type
_INSTANCE_COLUMNS = [field.name for field in SCHEMA if field.nullable]
_FORMAT = TableFormat(
    kind="label shard",
    version=1,
    schema=SCHEMA,
    repeating=("image_id", "width", "height", "category", "is_crowd", "labeller"),
    searchable=("image_id", "category", "score"),
)


def encode_shard(images: Sequence[LabeledImage], labeller: str) -> bytes:
    """Encode labels.

    Args:
        images: in the order in which they will be read back; instances keep theirs.
        labeller: fingerprint of the stage whose teacher made the labels, or `ground_truth`.

    Returns:
        A Parquet file.

    Raises:
        ValueError: an image occurs twice, or a mask has not the size of its image.
    """
    if len({image.image_id for image in images}) != len(images):
        raise ValueError("an image occurs twice in a label shard")
    return _FORMAT.encode(row for image in images for row in _rows(image, labeller))


def decode_shard(data: bytes, where: str) -> list[LabeledImage]:
    """Decode labels.

    Args:
        data: a file that `encode_shard` made.
        where: URI of the object, for the message.

    Raises:
        IntegrityError: not a label shard, another version, or rows that contradict each other.
    """
    rows = _FORMAT.decode(data, where)
    by_image = groupby(rows, key=lambda row: row["image_id"])
    images = [_image(image_id, list(group), where) for image_id, group in by_image]
    if len({image.image_id for image in images}) != len(images):
        raise IntegrityError(f"{where}: the rows of an image are not adjacent; the shard was changed")
    return images


def _rows(image: LabeledImage, labeller: str) -> Iterator[dict[str, Any]]:
    common = {"image_id": image.image_id, "width": image.width, "height": image.height, "labeller": labeller}
    if not image.instances:
        yield common
    for item in image.instances:
        if list(item.rle["size"]) != [image.height, image.width]:
            size = f"{image.height} x {image.width}"
            raise ValueError(f"{image.image_id}: mask of size {item.rle['size']} on an image of {size}")
        yield {
            **common,
            "category": item.category,
            "class_score": item.class_score,
            "mask_score": item.mask_score,
            "score": item.score,
            **dict(zip(("bbox_x", "bbox_y", "bbox_width", "bbox_height"), item.bbox, strict=True)),
            "area": item.area,
            "is_crowd": item.is_crowd,
            "rle_counts": item.rle["counts"].encode("ascii"),
        }


def _image(image_id: str, rows: list[dict[str, Any]], where: str) -> LabeledImage:
    width, height = rows[0]["width"], rows[0]["height"]
    instances = []
    for row in rows:
        missing = [name for name in _INSTANCE_COLUMNS if row[name] is None]
        empty = len(missing) == len(_INSTANCE_COLUMNS)
        partly = bool(missing) and (not empty or len(rows) > 1)
        if partly or (row["width"], row["height"]) != (width, height):
            raise IntegrityError(f"{where}: the rows of image '{image_id}' contradict each other")
        if not empty:
            instances.append(_instance(row, where))
    return LabeledImage(image_id=image_id, width=width, height=height, instances=instances)


def _instance(row: dict[str, Any], where: str) -> Instance:
    try:
        counts = row["rle_counts"].decode("ascii")
    except UnicodeDecodeError:
        raise IntegrityError(f"{where}: a mask of image '{row['image_id']}' is not a COCO RLE") from None
    return Instance(
        category=row["category"],
        rle=Rle(size=[row["height"], row["width"]], counts=counts),
        score=row["score"],
        class_score=row["class_score"],
        mask_score=row["mask_score"],
        bbox=(row["bbox_x"], row["bbox_y"], row["bbox_width"], row["bbox_height"]),
        area=row["area"],
        is_crowd=row["is_crowd"],
    )
