"""Image to network input, and network output to masks, in numpy and Pillow alone.

PyTorch inference and the torch-free ONNX predictor both call these functions, so the two can differ only in the
network's own arithmetic.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image


@dataclass(frozen=True)
class RawInstance:
    """One predicted object with a dense mask.

    Attributes:
        category: class index.
        score: class score times mask score.
        class_score: softmax probability of the class.
        mask_score: mean mask probability over the pixels of the mask.
        mask: [height, width] of the original image.
    """

    category: int
    score: float
    class_score: float
    mask_score: float
    mask: NDArray[np.bool_]


def fit_size(height: int, width: int, to_height: int, to_width: int) -> tuple[int, int]:
    """Return the largest (height, width) of the image's aspect ratio inside `to_height` x `to_width`."""
    scale = min(to_height / height, to_width / width)
    return max(1, min(to_height, round(height * scale))), max(1, min(to_width, round(width * scale)))


def letterbox(image: NDArray[np.uint8], height: int, width: int) -> tuple[NDArray[np.uint8], tuple[int, int]]:
    """Resize an image to fit and pad it at the bottom and right with black.

    Args:
        image: RGB, [h, w, 3].
        height: of the network input, pixels.
        width: likewise.

    Returns:
        The padded image [height, width, 3] and the (height, width) that the image itself takes up.
    """
    size = fit_size(image.shape[0], image.shape[1], height, width)
    if size != image.shape[:2]:
        image = np.asarray(Image.fromarray(image).resize((size[1], size[0]), Image.Resampling.BILINEAR))
    canvas = np.zeros((height, width, 3), dtype=np.uint8)
    canvas[: size[0], : size[1]] = image
    return canvas, size


def to_pixels(image: NDArray[np.uint8], mean: Sequence[float], std: Sequence[float]) -> NDArray[np.float32]:
    """Normalise an RGB image [H, W, 3] to [3, H, W] by per-channel mean and standard deviation on a 0..1 scale."""
    scaled = (image.astype(np.float32) / 255.0 - np.asarray(mean, np.float32)) / np.asarray(std, np.float32)
    return np.ascontiguousarray(scaled.transpose(2, 0, 1))


def image_box(
    cells: tuple[int, int], input_size: tuple[int, int], resized: tuple[int, int]
) -> tuple[float, float, float, float]:
    """Return the part of a logit map that shows the image and not the padding: left, top, right, bottom.

    Args:
        cells: (rows, columns) of the map, which covers the whole padded input; the result is in (fractional) cells.
        input_size: (H, W) of the network input.
        resized: (height, width) that the image took up inside it, from `letterbox`.
    """
    return 0.0, 0.0, cells[1] * resized[1] / input_size[1], cells[0] * resized[0] / input_size[0]


def instances_from_logits(
    class_logits: NDArray[np.float32],
    mask_logits: NDArray[np.float32],
    input_size: tuple[int, int],
    resized: tuple[int, int],
    original: tuple[int, int],
    max_instances: int = 100,
    score_threshold: float = 0.0,
    mask_threshold: float = 0.5,
) -> list[RawInstance]:
    """Turn the queries of one image into instances (Mask2Former's instance inference).

    The best (query, class) pairs by class probability are kept; an instance's score is that probability times the
    mean mask probability inside its mask.

    Args:
        class_logits: [Q, C+1]; the last column is "no object".
        mask_logits: [Q, h, w], covering the whole padded input.
        input_size: (H, W) of the network input.
        resized: (height, width) that the image took up inside it, from `letterbox`.
        original: (height, width) of the image as shown.
        max_instances: number of pairs kept.
        score_threshold: instances with a lower score are dropped.
        mask_threshold: probability above which a pixel belongs to the mask.

    Returns:
        Instances with a mask that is not empty, best score first.
    """
    shifted = np.exp(class_logits - class_logits.max(axis=1, keepdims=True))
    scores = (shifted / shifted.sum(axis=1, keepdims=True))[:, :-1]
    order = np.argsort(-scores, axis=None, kind="stable")[:max_instances]
    masks: dict[int, tuple[NDArray[np.bool_], float]] = {}
    found = []
    for flat in order:
        query, category = divmod(int(flat), scores.shape[1])
        class_score = float(scores[query, category])
        if class_score < score_threshold:
            break
        if query not in masks:
            masks[query] = _paste(mask_logits[query], input_size, resized, original, mask_threshold)
        mask, mask_score = masks[query]
        score = class_score * mask_score
        if mask_score > 0.0 and score >= score_threshold:
            found.append(RawInstance(category, score, class_score, mask_score, mask))
    return sorted(found, key=lambda item: -item.score)


def _paste(
    logits: NDArray[np.float32],
    input_size: tuple[int, int],
    resized: tuple[int, int],
    original: tuple[int, int],
    threshold: float,
) -> tuple[NDArray[np.bool_], float]:
    """Return one query's mask at original size, and its mean probability inside; an empty mask scores 0."""
    box = image_box((logits.shape[0], logits.shape[1]), input_size, resized)
    plane = Image.fromarray(np.ascontiguousarray(logits, dtype=np.float32), mode="F")
    full = np.asarray(plane.resize((original[1], original[0]), Image.Resampling.BILINEAR, box=box))
    mask = full > np.float32(np.log(threshold / (1.0 - threshold)))
    if not mask.any():
        return mask, 0.0
    return mask, float(np.mean(1.0 / (1.0 + np.exp(-full[mask].astype(np.float64)))))
