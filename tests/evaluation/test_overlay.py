from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from sskd_core.data.draw import class_color
from sskd_core.data.masks import encode_mask, mask_bbox
from sskd_core.data.records import Instance
from sskd_core.evaluation.overlay import draw_row


def half(score: float = 1.0) -> Instance:
    mask = np.zeros((40, 60), dtype=np.bool_)
    mask[:, :30] = True
    rle = encode_mask(mask)
    return Instance(1, rle, score, bbox=mask_bbox(rle))


def opened(data: bytes) -> np.ndarray:
    assert data.startswith(b"\x89PNG")
    return np.asarray(Image.open(io.BytesIO(data)))


def test_each_panel_shows_its_own_instances_under_its_caption() -> None:
    grey = np.full((40, 60, 3), 90, dtype=np.uint8)
    row = opened(draw_row(grey, [("ground truth", [half()]), ("student", [])], ["disc", "box"]))
    height, width = 320, 480
    assert row.shape == (height + 26, 2 * width + 6, 3)
    left, right = row[26:, :width], row[26:, width + 6 :]
    assert (right == 90).all()
    assert (left[200, 400] == 90).all()
    tint = left[200, 100].astype(int) - 90
    assert np.sign(tint).tolist() == np.sign(np.array(class_color(1)) - 90).tolist()
    captions = row[:26]
    assert (captions[:, :width] < 128).any()
    assert (captions[:, width + 6 :] < 128).any()
    assert (row[:, width : width + 6] == 255).all()


@pytest.mark.parametrize(("size", "panel"), [((2000, 1000), (320, 160)), ((500, 3000), (80, 480))])
def test_panels_keep_the_aspect_ratio_within_bounds(size: tuple[int, int], panel: tuple[int, int]) -> None:
    row = opened(draw_row(np.zeros((*size, 3), dtype=np.uint8), [("a", [])], []))
    assert row.shape == (panel[0] + 26, panel[1], 3)


def test_the_same_row_is_the_same_file() -> None:
    image = np.zeros((40, 60, 3), dtype=np.uint8)
    assert draw_row(image, [("a", [half(0.7)])], ["x", "y"]) == draw_row(image, [("a", [half(0.7)])], ["x", "y"])
