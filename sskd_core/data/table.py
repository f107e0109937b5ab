"""Parquet files of fixed columns: the index of a data set and the label shards are such tables.

Encoding is deterministic: equal rows give equal bytes under the same pyarrow, so a digest stands for the rows.
Decoding trusts nothing: kind, version and columns are checked, and so is every byte of text.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.parquet as pq

from sskd_core.errors import IntegrityError

_ZSTD_LEVEL = 3


@dataclass(frozen=True)
class TableFormat:
    """One kind of table.

    Attributes:
        kind: what a file is called in messages, and under which its version stands in the file's metadata.
        version: raised with every change of the columns or of their meaning.
        schema: the columns.
        repeating: columns whose values repeat, worth a dictionary.
        searchable: columns with minimum and maximum in the file, by which other tools skip.
    """

    media_type: ClassVar[str] = "application/vnd.apache.parquet"
    kind: str
    version: int
    schema: pa.Schema
    repeating: Sequence[str] = ()
    searchable: Sequence[str] = ()

    def encode(self, rows: Iterable[Mapping[str, Any]]) -> bytes:
        """Encode rows as a Parquet file; a column that a row lacks is null."""
        schema = self.schema.with_metadata({self._key: str(self.version).encode()})
        sink = pa.BufferOutputStream()
        pq.write_table(
            pa.Table.from_pylist(list(rows), schema=schema),
            sink,
            compression="zstd",
            compression_level=_ZSTD_LEVEL,
            use_dictionary=list(self.repeating),
            write_statistics=list(self.searchable),
        )
        return bytes(sink.getvalue().to_pybytes())

    def decode(self, data: bytes, where: str) -> list[dict[str, Any]]:
        """Decode a file that `encode` made.

        Args:
            data: the file.
            where: URI of the object, for the message.

        Raises:
            IntegrityError: another kind, another version, other columns, or damaged.
        """
        try:
            table = pq.read_table(pa.BufferReader(data))
            self._check(table.schema, where)
            table.validate(full=True)
            rows: list[dict[str, Any]] = table.to_pylist()
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            reason = " ".join(str(error).split())[:200]
            raise IntegrityError(f"{where}: not a readable {self.kind} ({reason}); write it again") from None
        return rows

    @property
    def _key(self) -> bytes:
        return f"sskd.{self.kind.replace(' ', '_')}.version".encode()

    def _check(self, schema: pa.Schema, where: str) -> None:
        found = (schema.metadata or {}).get(self._key)
        if found is None:
            raise IntegrityError(f"{where}: a Parquet file, but not a {self.kind}; wrong object passed?")
        if found != str(self.version).encode():
            version = found.decode(errors="replace")
            raise IntegrityError(
                f"{where}: {self.kind} version {version}, this release reads {self.version}; write it again"
            )
        if not schema.equals(self.schema):
            names = dict.fromkeys(item.name for item in sorted(set(schema) ^ set(self.schema), key=str))
            different = ", ".join(names) or "their order"
            raise IntegrityError(
                f"{where}: not the columns of {self.kind} version {self.version}: {different}; write it again"
            )
