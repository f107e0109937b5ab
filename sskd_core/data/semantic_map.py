"""Class logits of a network to a class for every pixel of the image, in numpy and Pillow alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sskd_core.data.preprocess import RawInstance, image_box


@dataclass(frozen=True)
class SemanticMap:
    """The class of every pixel.

    Attributes:
        category: [height, width] class indices.
        confidence: [height, width] softmax probability of that class.
    """

    category: NDArray[np.uint16]
    confidence: NDArray[np.float32]


def semantic_map_from_logits(
    logits: NDArray[np.float32], input_size: tuple[int, int], resized: tuple[int, int], original: tuple[int, int]
) -> SemanticMap:
    """Resize the logits bilinearly to the image and take the best class; the first one among equals.

    Class by class, so that memory does not grow with the number of classes.

    Args:
        logits: [C, h, w], covering the whole padded input.
        input_size: (H, W) of the network input.
        resized: (height, width) that the image took up inside it, from `letterbox`.
        original: (height, width) of the image as shown.
    """
    box = image_box((logits.shape[1], logits.shape[2]), input_size, resized)
    best = np.full(original, -np.inf, dtype=np.float32)
    category = np.zeros(original, dtype=np.uint16)
    total = np.zeros(original, dtype=np.float32)
    """Sum over the classes so far of exp(logit - best)."""
    for index, plane in enumerate(logits):
        picture = Image.fromarray(np.ascontiguousarray(plane, dtype=np.float32), mode="F")
        full = np.asarray(picture.resize((original[1], original[0]), Image.Resampling.BILINEAR, box=box))
        higher = np.maximum(best, full)
        total = total * np.exp(best - higher) + np.exp(full - higher)
        category[full > best] = index
        best = higher
    return SemanticMap(category, 1.0 / total)


def regions_of(found: SemanticMap) -> list[RawInstance]:
    """Return one region for each class on the map, in class order; its score is the mean confidence inside."""
    regions = []
    for category in np.unique(found.category):
        mask = found.category == category
        score = float(found.confidence[mask].mean())
        regions.append(RawInstance(int(category), score, score, 1.0, mask))
    return regions
