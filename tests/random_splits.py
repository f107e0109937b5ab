"""Random splits with predictions: shaken truths, strays, duplicates, crowds, ties, and a class that never occurs."""

from __future__ import annotations

import numpy as np

from sskd_core.data.masks import encode_mask, mask_area, mask_bbox
from sskd_core.data.records import Instance, LabeledImage

CLASSES = ["disc", "box", "star", "never"]
SIDE = 48
Truth = dict[str, LabeledImage]
Predictions = dict[str, list[Instance]]


def rectangle(category, x, y, width, height, score=1.0, is_crowd=False):
    """Return an instance that fills a rectangle."""
    mask = np.zeros((SIDE, SIDE), dtype=np.bool_)
    mask[y : y + height, x : x + width] = True
    rle = encode_mask(mask)
    return Instance(category, rle, score, bbox=mask_bbox(rle), area=float(mask_area(rle)), is_crowd=is_crowd)


def random_split(seed: int) -> tuple[Truth, Predictions]:
    """Draw a split whose predictions are shaken truths, strays and duplicates, with many equal scores."""
    rng = np.random.default_rng(seed)
    truth: Truth = {}
    predictions: Predictions = {}
    for number in range(int(rng.integers(1, 7))):
        instances = []
        for _ in range(int(rng.integers(0, 6))):
            x, y, width, height = (int(value) for value in rng.integers([0, 0, 2, 2], [36, 36, 24, 24]))
            crowd = bool(rng.random() < 0.15)
            instances.append(rectangle(int(rng.integers(0, 3)), x, y, width, height, is_crowd=crowd))
        truth[f"folder/{number}.png"] = LabeledImage(f"folder/{number}.png", SIDE, SIDE, instances)
        if rng.random() < 0.85:
            predictions[f"folder/{number}.png"] = [shaken(item, rng) for item in instances * 2] + strays(rng)
    return truth, predictions


def shaken(item: Instance, rng: np.random.Generator) -> Instance:
    dx, dy, dw, dh = (int(value) for value in rng.integers(-3, 4, 4))
    x, y, width, height = (int(value) for value in item.bbox)
    category = item.category if rng.random() < 0.8 else int(rng.integers(0, 4))
    score = round(float(rng.random()), 1)
    return rectangle(category, max(0, x + dx), max(0, y + dy), max(1, width + dw), max(1, height + dh), score)


def strays(rng: np.random.Generator) -> list[Instance]:
    return [
        rectangle(
            int(rng.integers(0, 4)), *(int(v) for v in rng.integers(0, 20, 2)), 9, 9, round(float(rng.random()), 1)
        )
        for _ in range(int(rng.integers(0, 4)))
    ]
