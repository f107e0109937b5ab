"""Index shards: round trip, determinism, and the refusal of other or damaged files."""

from __future__ import annotations

import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sskd_core.data.index import decode_index, encode_index
from sskd_core.data.records import ImageRecord
from sskd_core.errors import IntegrityError

texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30)
records = st.builds(
    ImageRecord,
    image_id=texts,
    uri=texts,
    digest=texts,
    bytes=st.integers(0, 2**62),
    width=st.integers(1, 2**31 - 1),
    height=st.integers(1, 2**31 - 1),
)
RECORD = ImageRecord("a/b.jpg", "s3://bucket/a", "sha256:" + "0" * 64, 10, 640, 480)


@given(st.lists(records, max_size=8))
def test_records_survive_the_round_trip_in_order(items):
    assert decode_index(encode_index(items), "s3://b/k") == items


def test_equal_records_give_equal_bytes():
    assert encode_index([RECORD]) == encode_index([ImageRecord(**vars(RECORD))])


@pytest.mark.parametrize("change", [lambda data: b"", lambda data: b"text", lambda data: data[: len(data) // 2]])
def test_a_damaged_file_is_one_line_that_names_the_object(change):
    with pytest.raises(IntegrityError, match=r"^s3://b/k: not a readable index shard") as caught:
        decode_index(change(encode_index([RECORD])), "s3://b/k")
    assert "\n" not in str(caught.value)


def test_another_parquet_file_is_refused():
    sink = io.BytesIO()
    pq.write_table(pa.table({"a": [1]}), sink)
    with pytest.raises(IntegrityError, match="but not an index shard"):
        decode_index(sink.getvalue(), "s3://b/k")


@pytest.mark.parametrize("change", ["version", "columns"])
def test_another_version_or_other_columns_are_refused(change):
    table = pq.read_table(io.BytesIO(encode_index([RECORD])))
    if change == "version":
        table = table.replace_schema_metadata({b"sskd.index.version": b"999"})
    else:
        table = table.drop_columns(["height"])
    sink = io.BytesIO()
    pq.write_table(table, sink)
    with pytest.raises(IntegrityError, match="not an index shard of version 1"):
        decode_index(sink.getvalue(), "s3://b/k")
