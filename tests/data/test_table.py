"""Tables of fixed columns: equal bytes for equal rows, and no table taken for another."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sskd_core.data.table import TableFormat
from sskd_core.errors import IntegrityError

URI = "s3://bucket/table.parquet"
COLUMNS = pa.schema([pa.field("name", pa.string(), nullable=False), pa.field("value", pa.float64())])
FORMAT = TableFormat("size table", 3, COLUMNS, repeating=("name",), searchable=("value",))
numbers = st.none() | st.floats(allow_nan=False)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.fixed_dictionaries({"name": st.text(max_size=5), "value": numbers}), max_size=20))
def test_rows_survive_the_round_trip_and_give_the_same_bytes_again(rows):
    data = FORMAT.encode(rows)
    assert FORMAT.decode(data, URI) == rows
    assert FORMAT.encode(iter(rows)) == data


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (TableFormat("price table", 3, COLUMNS), "not a size table; wrong object"),
        (TableFormat("size table", 4, COLUMNS), "size table version 4, this release reads 3"),
        (TableFormat("size table", 3, pa.schema([COLUMNS.field("name")])), "columns of size table version 3: value"),
    ],
)
def test_another_table_is_refused(other, message):
    with pytest.raises(IntegrityError, match=message) as caught:
        FORMAT.decode(other.encode([{"name": "a"}]), URI)
    assert str(caught.value).startswith(f"{URI}: ")


def test_damaged_bytes_are_refused_in_one_line():
    data = bytearray(FORMAT.encode([{"name": "a", "value": 1.0}] * 100))
    for place in range(0, len(data), 41):
        damaged = bytes(data[:place]) + bytes([data[place] ^ 0x55]) + bytes(data[place + 1 :])
        message = ""
        try:
            FORMAT.decode(damaged, URI)
        except IntegrityError as error:
            message = str(error)
        assert "\n" not in message


def test_a_null_where_none_may_be_is_refused():
    with pytest.raises(pa.ArrowInvalid):
        FORMAT.encode([{"value": 1.0}])
