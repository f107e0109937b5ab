"""Masks as COCO run-length encodings: from pixels, polygons or runs, and back.

The encodings are those of pycocotools, which does the work. What is added is the check that the runs fill the
mask exactly: pycocotools reads uninitialised memory where they do not.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from sskd_core.data.records import Rle
from sskd_core.errors import DataError

_MAX_DIGITS = 7  # of five bits: any run below 2^32 with its sign


def encode_mask(mask: NDArray[np.bool_]) -> Rle:
    """Encode a mask.

    Args:
        mask: [height, width], true inside.
    """
    return _rle(coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8)))


def encode_polygons(polygons: Sequence[Sequence[float]], height: int, width: int) -> Rle:
    """Encode the union of polygons.

    Args:
        polygons: each x0, y0, x1, y1, ... in pixels, at least three points.
        height: of the mask.
        width: of the mask.
    """
    parts = coco_mask.frPyObjects([list(polygon) for polygon in polygons], height, width)
    return _rle(coco_mask.merge(parts))


def encode_runs(runs: Sequence[int], height: int, width: int) -> Rle:
    """Encode uncompressed runs: column by column, the first one outside the mask.

    Raises:
        DataError: the runs do not fill the mask exactly.
    """
    _check_runs(np.asarray(runs, dtype=np.int64), height, width)
    return _rle(coco_mask.frPyObjects({"size": [height, width], "counts": list(runs)}, height, width))


def decode_mask(rle: Rle) -> NDArray[np.bool_]:
    """Return the mask, [height, width], true inside.

    Raises:
        DataError: the runs do not fill the mask exactly.
    """
    check_rle(rle)
    decoded: NDArray[np.uint8] = coco_mask.decode(rle)
    return np.ascontiguousarray(decoded).view(np.bool_)


def mask_area(rle: Rle) -> int:
    """Return the number of pixels inside the mask."""
    return int(coco_mask.area(rle))


def mask_iou(first: Sequence[Rle], second: Sequence[Rle]) -> NDArray[np.float64]:
    """Return the overlap of every mask with every other, [len(first), len(second)]: intersection over union."""
    if not first or not second:
        return np.zeros((len(first), len(second)))
    overlaps: NDArray[np.float64] = coco_mask.iou(list(first), list(second), [0] * len(second))
    return overlaps


def mask_bbox(rle: Rle) -> tuple[float, float, float, float]:
    """Return the tight box of the mask: x, y, width, height in pixels, all 0 for an empty mask."""
    x, y, width, height = coco_mask.toBbox(rle).tolist()
    return (x, y, width, height)


def check_rle(rle: Rle) -> None:
    """Check an encoding from outside.

    Raises:
        DataError: the counts are no run-length text, or do not fill the mask exactly.
    """
    height, width = rle["size"]
    _check_runs(run_lengths(rle["counts"]), height, width)


def run_lengths(counts: str) -> NDArray[np.int64]:
    """Decode the compressed text of an encoding into its runs.

    A run is written as base-32 digits, lowest first, one a character (offset 48); bit 5 says that more follow
    and bit 4 of the last is the sign. From the fourth run on it is the difference to the run two before.

    Raises:
        DataError: the text was not written by this scheme.
    """
    digits = np.frombuffer(counts.encode("utf-8"), dtype=np.uint8).astype(np.int64) - 48
    last = np.flatnonzero((digits & 32) == 0)
    ends_well = last.size > 0 and last[-1] == digits.size - 1
    if not ends_well or digits.min() < 0 or digits.max() > 63:
        raise DataError("the counts are not a compressed run-length text")
    first = np.concatenate([[0], last[:-1] + 1])
    length = last - first + 1
    if length.max() > _MAX_DIGITS:
        raise DataError("the counts are not a compressed run-length text")
    place = np.arange(digits.size) - np.repeat(first, length)
    runs = np.add.reduceat((digits & 31) << (5 * place), first)
    runs -= ((digits[last] & 16) != 0) * (np.int64(1) << (5 * length))
    runs[1::2] = np.cumsum(runs[1::2])
    runs[2::2] = np.cumsum(runs[2::2])
    return runs


def _check_runs(runs: NDArray[np.int64], height: int, width: int) -> None:
    if runs.size and runs.min() < 0:
        raise DataError("the run-length mask has a negative run")
    if (total := int(runs.sum())) != height * width:
        raise DataError(f"the runs of the mask cover {total} pixels, {height} x {width} has {height * width}")


def _rle(encoded: dict[str, object]) -> Rle:
    size, counts = encoded["size"], encoded["counts"]
    assert isinstance(size, list)
    assert isinstance(counts, bytes)
    return Rle(size=[int(side) for side in size], counts=counts.decode("ascii"))
