from __future__ import annotations

import numpy as np
import pytest
from matplotlib.path import Path as Outline
from pycocotools import mask as coco_mask

from sskd_core.data.polygons import encode_rle, mask_polygons


def masks() -> list[np.ndarray]:
    rng = np.random.default_rng(1)
    made = [rng.random((int(rng.integers(1, 40)), int(rng.integers(1, 40)))) < share for share in (0.05, 0.3, 0.5, 0.9)]
    wide = np.zeros((300, 2000), dtype=bool)
    wide[20:280, 100:1900] = True
    return [*made, wide, np.zeros((3, 5), dtype=bool), np.ones((5, 3), dtype=bool), ~made[2]]


@pytest.mark.parametrize("mask", masks())
def test_run_lengths_are_those_of_pycocotools(mask: np.ndarray) -> None:
    expected = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
    assert encode_rle(mask) == {"size": list(expected["size"]), "counts": expected["counts"].decode()}


def painted(polygons: list[list[float]], shape: tuple[int, ...]) -> np.ndarray:
    """Return the pixels whose centre lies in one of the polygons."""
    y, x = np.mgrid[: shape[0], : shape[1]] + 0.5
    inside = np.zeros(shape, dtype=bool)
    for polygon in polygons:
        inside |= Outline(np.reshape(polygon, (-1, 2))).contains_points(np.c_[x.ravel(), y.ravel()]).reshape(shape)
    return inside


def test_polygons_cover_a_mask_without_holes_exactly() -> None:
    mask = np.zeros((12, 14), dtype=bool)
    mask[1:5, 1:6] = mask[3:9, 4:7] = mask[10, 10] = True
    mask[11, 11] = True  # touches the pixel before at a corner
    polygons = mask_polygons(mask)
    np.testing.assert_array_equal(painted(polygons, mask.shape), mask)
    assert len(polygons) == 3
    assert polygons[1] == [10.0, 10.0, 11.0, 10.0, 11.0, 11.0, 10.0, 11.0]


@pytest.mark.parametrize("seed", range(5))
def test_polygons_of_noise_cover_the_mask_and_its_holes(seed: int) -> None:
    from scipy.ndimage import binary_fill_holes, label

    mask = np.random.default_rng(seed).random((20, 23)) < 0.55
    polygons = mask_polygons(mask)
    parts, count = label(mask)  # 4-connected, as the polygons are
    assert len(polygons) == count
    filled = np.zeros_like(mask)
    for part in range(1, count + 1):
        # A hole is what 8-connected paths cannot leave.
        filled |= binary_fill_holes(parts == part, structure=np.ones((3, 3)))
    np.testing.assert_array_equal(painted(polygons, mask.shape), filled)


def test_a_hole_is_left_out_and_nothing_has_no_polygon() -> None:
    ring = np.ones((5, 5), dtype=bool)
    ring[2, 2] = False
    assert mask_polygons(ring) == [[0.0, 0.0, 5.0, 0.0, 5.0, 5.0, 0.0, 5.0]]
    assert mask_polygons(np.zeros((4, 4), dtype=bool)) == []
