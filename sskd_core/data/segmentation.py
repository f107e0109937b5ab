"""One COCO `segmentation` to a mask: polygons, compressed or uncompressed run lengths.

Everything is checked before pycocotools sees it, because it trusts its input: a coordinate far outside the image
costs it memory in proportion, and runs that do not fill the mask are read past their end.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from sskd_core.data.masks import check_rle, encode_polygons, encode_runs
from sskd_core.data.records import Rle
from sskd_core.errors import DataError

_MIN_NUMBERS = 6  # three points


def segmentation_to_rle(segmentation: Any, height: int, width: int) -> Rle:
    """Convert a segmentation.

    Args:
        segmentation: the parsed JSON value; the parts of an object in several pieces are merged.
        height: of the image.
        width: of the image.

    Raises:
        DataError: what is wrong with it, without saying where.
    """
    if not segmentation:
        raise DataError("has no segmentation, a box alone is not enough; draw a polygon or a mask, or remove it")
    if isinstance(segmentation, Mapping):
        return _from_runs(segmentation, height, width)
    if not isinstance(segmentation, list) or not all(isinstance(polygon, list) for polygon in segmentation):
        raise DataError("its segmentation is neither a list of polygons [[x, y, ...], ...] nor an RLE object")
    for number, polygon in enumerate(segmentation):
        _check_polygon(polygon, f"polygon {number + 1}", height, width)
    return encode_polygons(segmentation, height, width)


def _check_polygon(polygon: Sequence[Any], name: str, height: int, width: int) -> None:
    if not all(type(value) in (int, float) for value in polygon):
        raise DataError(f"{name} has a coordinate that is not a number")
    if any(isinstance(value, float) and not math.isfinite(value) for value in polygon):
        raise DataError(f"{name} has a coordinate that is not finite (NaN or infinity)")
    if len(polygon) % 2:
        raise DataError(f"{name} has {len(polygon)} coordinates, an odd number; x or y is missing")
    if len(polygon) < _MIN_NUMBERS:
        raise DataError(f"{name} has {len(polygon) // 2} points, fewer than three")
    for values, side in ((polygon[0::2], width), (polygon[1::2], height)):
        if min(values) < -side or max(values) > 2 * side:
            raise DataError(
                f"{name} lies far outside the image of {width} x {height} pixels; are its coordinates in pixels?"
            )


def _from_runs(value: Mapping[str, Any], height: int, width: int) -> Rle:
    size, counts = value.get("size"), value.get("counts")
    if not isinstance(size, list) or len(size) != 2 or not _integers(size):
        raise DataError("its RLE has no 'size' of the form [height, width]")
    if size != [height, width]:
        raise DataError(f"its RLE has the size {size[0]} x {size[1]} (height x width), the image is {height} x {width}")
    if isinstance(counts, str):
        rle = Rle(size=[height, width], counts=counts)
        check_rle(rle)
        return rle
    if isinstance(counts, list) and _integers(counts):
        return encode_runs(counts, height, width)
    raise DataError("its RLE has no 'counts', neither a text nor a list of integers")


def _integers(values: Sequence[Any]) -> bool:
    return all(type(value) is int for value in values)
