"""The format of an index shard: Parquet, zstd, one row an image, the columns of `ImageRecord`.

Encoding is deterministic: equal records give equal bytes under the same pyarrow. Decoding checks version, columns and
completeness before a record is built.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

import pyarrow as pa
import pyarrow.parquet as pq

from sskd_core.data.records import ImageRecord
from sskd_core.errors import IntegrityError

VERSION = 1
MEDIA_TYPE = "application/vnd.apache.parquet"
_VERSION_KEY = b"sskd.index.version"
_ZSTD_LEVEL = 3

SCHEMA = pa.schema(
    [
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("uri", pa.string(), nullable=False),
        pa.field("digest", pa.string(), nullable=False),
        pa.field("bytes", pa.int64(), nullable=False),
        pa.field("width", pa.int32(), nullable=False),
        pa.field("height", pa.int32(), nullable=False),
    ]
)
"""The columns; the fields of `ImageRecord` in its order."""


def encode_index(records: Sequence[ImageRecord]) -> bytes:
    """Encode records as a Parquet file, in the order given."""
    metadata = {_VERSION_KEY: str(VERSION).encode()}
    table = pa.Table.from_pylist([asdict(record) for record in records], schema=SCHEMA.with_metadata(metadata))
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", compression_level=_ZSTD_LEVEL, use_dictionary=False)
    return bytes(sink.getvalue().to_pybytes())


def decode_index(data: bytes, where: str) -> list[ImageRecord]:
    """Decode a file that `encode_index` made.

    Args:
        data: the file.
        where: URI of the object, for the message.

    Raises:
        IntegrityError: not an index shard, another version, or damaged.
    """
    try:
        table = pq.read_table(pa.BufferReader(data))
        table.validate(full=True)
        rows = table.to_pylist()
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise IntegrityError(f"{where}: not a readable index shard ({reason}); prepare the data again") from None
    version = (table.schema.metadata or {}).get(_VERSION_KEY)
    if version is None:
        raise IntegrityError(f"{where}: a Parquet file, but not an index shard; wrong object passed?")
    if version != str(VERSION).encode() or not table.schema.equals(SCHEMA):
        raise IntegrityError(f"{where}: not an index shard of version {VERSION}; prepare the data again")
    return [ImageRecord(**row) for row in rows]
