"""Index shards: round trip, determinism, and the refusal of what is no index shard."""

from __future__ import annotations

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


def test_something_else_is_one_line_that_names_the_object():
    with pytest.raises(IntegrityError, match=r"^s3://b/k: not a readable index shard") as caught:
        decode_index(encode_index([RECORD])[:-20], "s3://b/k")
    assert "\n" not in str(caught.value)
