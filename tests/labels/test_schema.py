"""The label shard: exact round trips, equal bytes for equal labels, and refusal of anything else."""

from __future__ import annotations

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sskd_core.data.masks import encode_mask
from sskd_core.data.records import Instance, LabeledImage, Rle
from sskd_core.errors import IntegrityError
from sskd_core.labels.schema import SCHEMA, decode_shard, encode_shard

URI = "s3://bucket/shards/00000.parquet"
finite = st.floats(allow_nan=False, allow_infinity=False)


@st.composite
def labeled_images(draw):
    height, width = draw(st.integers(1, 12)), draw(st.integers(1, 12))
    instances = [
        Instance(
            category=draw(st.integers(0, 2**31 - 1)),
            rle=encode_mask(np.random.default_rng(draw(st.integers(0, 99))).random((height, width)) < 0.5),
            score=draw(finite),
            class_score=draw(finite),
            mask_score=draw(finite),
            bbox=draw(st.tuples(finite, finite, finite, finite)),
            area=draw(finite),
            is_crowd=draw(st.booleans()),
        )
        for _ in range(draw(st.integers(0, 4)))
    ]
    return LabeledImage(draw(st.text(min_size=1, max_size=8)), width, height, instances)


shards = st.lists(labeled_images(), max_size=6, unique_by=lambda image: image.image_id)


@settings(deadline=None, max_examples=60)
@given(shards, st.text(max_size=8))
def test_labels_survive_the_round_trip_exactly(images, labeller):
    data = encode_shard(images, labeller)
    assert decode_shard(data, URI) == images
    assert encode_shard(list(images), labeller) == data


def test_labels_of_another_labeller_are_another_shard():
    images = [LabeledImage("a.jpg", 4, 3)]
    assert encode_shard(images, "one") != encode_shard(images, "two")


def test_an_empty_image_has_one_row_without_instance():
    table = pq.read_table(io.BytesIO(encode_shard([LabeledImage("a.jpg", 4, 3)], "teacher")))
    (row,) = table.to_pylist()
    assert {key: value for key, value in row.items() if value is not None} == {
        "image_id": "a.jpg",
        "width": 4,
        "height": 3,
        "labeller": "teacher",
    }


def test_repeating_an_image_costs_little():
    mask = encode_mask(np.eye(64, dtype=bool))
    one = [LabeledImage(f"{n}.jpg", 64, 64, [Instance(0, mask)]) for n in range(50)]
    ten = [LabeledImage(f"{n}.jpg", 64, 64, [Instance(0, mask)] * 10) for n in range(50)]
    assert len(encode_shard(ten, "x")) < 2 * len(encode_shard(one, "x"))


def test_an_image_twice_or_a_mask_of_another_size_is_refused():
    with pytest.raises(ValueError, match="twice"):
        encode_shard([LabeledImage("a", 4, 3), LabeledImage("a", 4, 3)], "x")
    with pytest.raises(ValueError, match="3 x 4"):
        encode_shard([LabeledImage("a", 4, 3, [Instance(0, Rle(size=[4, 3], counts="<"))])], "x")


def _table(rows, version=b"1", schema=SCHEMA):
    stream = io.BytesIO()
    metadata = {} if version is None else {b"sskd.label_shard.version": version}
    pq.write_table(pa.Table.from_pylist(rows, schema=schema.with_metadata(metadata)), stream)
    return stream.getvalue()


EMPTY = {"image_id": "a", "width": 4, "height": 3, "labeller": "x"}
FULL = {
    **EMPTY,
    **dict.fromkeys(["class_score", "mask_score", "score", "area"], 0.5),
    **dict.fromkeys(["bbox_x", "bbox_y", "bbox_width", "bbox_height"], 1.0),
    "category": 0,
    "is_crowd": False,
    "rle_counts": b"<",
}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not a readable label shard"),
        (b"PAR1 something else PAR1", "not a readable label shard"),
        (_table([], version=None), "not a label shard; wrong object"),
        (_table([], version=b"7"), "label shard version 7, this release reads 1"),
        (_table([], schema=SCHEMA.remove(SCHEMA.get_field_index("area"))), "columns .*: area"),
        (_table([], schema=SCHEMA.append(pa.field("extra", pa.int8()))), "columns .*: extra"),
        (_table([], schema=pa.schema(list(SCHEMA)[::-1])), "columns .*: their order"),
        (_table([{**FULL, "score": None}]), "image 'a' contradict"),
        (_table([EMPTY, FULL]), "image 'a' contradict"),
        (_table([FULL, {**FULL, "width": 5}]), "image 'a' contradict"),
        (_table([FULL, {**FULL, "image_id": "b"}, FULL]), "not adjacent"),
        (_table([{**FULL, "rle_counts": b"\xff"}]), "not a COCO RLE"),
    ],
)
def test_what_is_no_shard_of_this_version_is_refused_in_one_line(data, message):
    with pytest.raises(IntegrityError, match=message) as caught:
        decode_shard(data, URI)
    assert str(caught.value).startswith(URI)
    assert "\n" not in str(caught.value)


def test_every_truncation_is_refused():
    data = encode_shard([LabeledImage("a", 4, 3)], "x")
    for length in range(0, len(data), 97):
        with pytest.raises(IntegrityError):
            decode_shard(data[:length], URI)
