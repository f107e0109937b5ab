"""Run-length masks: round trips against pixels and pycocotools, and runs that do not fill the mask."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from pycocotools import mask as coco_mask

from sskd_core.data.masks import (
    check_rle,
    decode_mask,
    encode_mask,
    encode_polygons,
    encode_runs,
    mask_area,
    mask_bbox,
    run_lengths,
)
from sskd_core.data.records import Rle
from sskd_core.errors import DataError

masks = arrays(np.bool_, array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=40))


@given(masks)
def test_a_mask_survives_the_round_trip(mask):
    rle = encode_mask(mask)
    assert rle["size"] == list(mask.shape)
    decoded = decode_mask(rle)
    assert decoded.dtype == np.bool_
    np.testing.assert_array_equal(decoded, mask)
    assert mask_area(rle) == mask.sum()


@given(masks)
def test_the_box_is_tight(mask):
    x, y, width, height = mask_bbox(encode_mask(mask))
    if not mask.any():
        assert (width, height) == (0, 0)
        return
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    assert (x, y) == (columns[0], rows[0])
    assert (x + width, y + height) == (columns[-1] + 1, rows[-1] + 1)


@given(st.lists(st.integers(0, 5_000), min_size=1, max_size=60))
def test_run_lengths_reads_what_pycocotools_writes(runs):
    packed = coco_mask.frPyObjects({"size": [sum(runs), 1], "counts": runs}, sum(runs), 1)
    assert run_lengths(packed["counts"].decode()).tolist() == runs


@given(masks)
def test_uncompressed_runs_equal_the_compressed_ones(mask):
    rle = encode_mask(mask)
    assert encode_runs(run_lengths(rle["counts"]).tolist(), *mask.shape) == rle


def test_polygons_of_one_object_are_merged():
    rle = encode_polygons([[1, 1, 4, 1, 4, 3, 1, 3], [6, 5, 9, 5, 9, 8, 6, 8]], 10, 12)
    expected = np.zeros((10, 12), bool)
    expected[1:3, 1:4] = True
    expected[5:8, 6:9] = True
    np.testing.assert_array_equal(decode_mask(rle), expected)


@given(st.text(alphabet=st.characters(min_codepoint=32, max_codepoint=300), max_size=30))
def test_any_text_is_either_a_full_mask_or_refused(counts):
    rle = Rle(size=[5, 7], counts=counts)
    try:
        decoded = decode_mask(rle)
    except DataError:
        return
    assert encode_mask(decoded)["size"] == [5, 7]
    assert run_lengths(counts).sum() == 35


@pytest.mark.parametrize("counts", ["", "12", "T1", "P", "zzzz", "\x7f", "n0"])
def test_counts_that_do_not_fill_the_mask_are_refused(counts):
    with pytest.raises(DataError):
        check_rle(Rle(size=[5, 7], counts=counts))


@pytest.mark.parametrize("runs", [[1, 2], [40], [-1, 36], []])
def test_runs_that_do_not_fill_the_mask_are_refused(runs):
    with pytest.raises(DataError):
        encode_runs(runs, 5, 7)
