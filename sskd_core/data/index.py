"""The format of an index shard: one row an image, the columns of `ImageRecord`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

import pyarrow as pa

from sskd_core.data.records import ImageRecord
from sskd_core.data.table import TableFormat

FORMAT = TableFormat(
    kind="index shard",
    version=1,
    schema=pa.schema(
        [
            pa.field("image_id", pa.string(), nullable=False),
            pa.field("uri", pa.string(), nullable=False),
            pa.field("digest", pa.string(), nullable=False),
            pa.field("bytes", pa.int64(), nullable=False),
            pa.field("width", pa.int32(), nullable=False),
            pa.field("height", pa.int32(), nullable=False),
        ]
    ),
)


def encode_index(records: Sequence[ImageRecord]) -> bytes:
    """Encode records as a Parquet file, in the order given."""
    return FORMAT.encode(asdict(record) for record in records)


def decode_index(data: bytes, where: str) -> list[ImageRecord]:
    """Decode a file that `encode_index` made.

    Args:
        data: the file.
        where: URI of the object, for the message.

    Raises:
        IntegrityError: not an index shard, another version, or damaged.
    """
    return [ImageRecord(**row) for row in FORMAT.decode(data, where)]
