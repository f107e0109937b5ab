"""Segmentations: the three legal forms give the same mask, every illegal one a reason."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sskd_core.data.masks import decode_mask, encode_mask, run_lengths
from sskd_core.data.segmentation import segmentation_to_rle
from sskd_core.errors import DataError

HEIGHT, WIDTH = 6, 9


def square() -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[1:4, 2:7] = True
    return mask


def test_polygon_compressed_and_uncompressed_runs_give_the_same_mask():
    rle = encode_mask(square())
    runs = run_lengths(rle["counts"]).tolist()
    for segmentation in ([[2, 1, 7, 1, 7, 4, 2, 4]], dict(rle), {"size": [HEIGHT, WIDTH], "counts": runs}):
        found = segmentation_to_rle(segmentation, HEIGHT, WIDTH)
        np.testing.assert_array_equal(decode_mask(found), square())


def test_pieces_of_an_object_are_merged():
    found = decode_mask(segmentation_to_rle([[0, 0, 2, 0, 2, 2, 0, 2], [5, 3, 8, 3, 8, 5, 5, 5]], HEIGHT, WIDTH))
    assert found[0:2, 0:2].all()
    assert found[3:5, 5:8].all()
    assert found.sum() == 10


def test_a_polygon_may_reach_over_the_border():
    found = decode_mask(segmentation_to_rle([[-3, -3, 3, -3, 3, 3, -3, 3]], HEIGHT, WIDTH))
    assert found[:3, :3].all()
    assert found.sum() == 9


@pytest.mark.parametrize(
    ("segmentation", "reason"),
    [
        (None, "has no segmentation"),
        ([], "has no segmentation"),
        ([[1, 1, 5, 1]], "polygon 1 has 2 points, fewer than three"),
        ([[]], "polygon 1 has 0 points, fewer than three"),
        ([[0, 0, 4, 0, 4, 4], [1, 1, 5, 1]], "polygon 2 has 2 points"),
        ([[0, 0, 4, 0, 4, 4, 3]], "7 coordinates, an odd number"),
        ([[0, 0, 4, 0, float("nan"), 4]], "not finite"),
        ([[0, 0, 4, 0, float("inf"), 4]], "not finite"),
        ([[0, 0, 4, 0, "4", 4]], "not a number"),
        ([[0, 0, 4, 0, True, 4]], "not a number"),
        ([[0, 0, 4, 0, 10**400, 4]], "far outside the image of 9 x 6"),
        ([[0, 0, 400, 0, 400, 400]], "far outside the image of 9 x 6"),
        ([0, 0, 4, 0, 4, 4], "neither a list of polygons"),
        ("text", "neither a list of polygons"),
        ({"size": [WIDTH, HEIGHT], "counts": "f1"}, "size 9 x 6 (height x width), the image is 6 x 9"),
        ({"size": [WIDTH, HEIGHT], "counts": [54]}, "size 9 x 6 (height x width), the image is 6 x 9"),
        ({"counts": [54]}, "no 'size'"),
        ({"size": [6.0, 9], "counts": [54]}, "no 'size'"),
        ({"size": [6, 9]}, "no 'counts'"),
        ({"size": [6, 9], "counts": [1.5, 52.5]}, "no 'counts'"),
        ({"size": [6, 9], "counts": [50]}, "cover 50 pixels, 6 x 9 has 54"),
        ({"size": [6, 9], "counts": [-1, 55]}, "negative run"),
        ({"size": [6, 9], "counts": "12"}, "cover 3 pixels, 6 x 9 has 54"),
        ({"size": [6, 9], "counts": "ü"}, "not a compressed run-length text"),
    ],
)
def test_what_is_wrong_is_said(segmentation, reason):
    with pytest.raises(DataError) as caught:
        segmentation_to_rle(segmentation, HEIGHT, WIDTH)
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-20, 20) | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=8) | st.dictionaries(st.sampled_from(["size", "counts"]), inner),
    max_leaves=20,
)


@given(json_values)
def test_any_json_is_a_full_mask_or_a_reason(segmentation):
    try:
        found = segmentation_to_rle(segmentation, HEIGHT, WIDTH)
    except DataError:
        return
    assert decode_mask(found).shape == (HEIGHT, WIDTH)
