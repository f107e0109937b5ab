"""From images to instances with `grounded_sam`: boxes of the classes, their masks, overlaps resolved."""

from __future__ import annotations

import math
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image as PilImage
from torch import Tensor
from torch.nn import functional

from sskd_core.data.preprocess import RawInstance, letterbox
from sskd_core.models.grounded_sam import Detections, GroundedSam
from sskd_core.models.predictor import ImagePredictor
from sskd_core.models.protocol import Image
from sskd_core.models.sam_masks import BOXES_AT_ONCE, decode_boxes, encode_image, input_side


class GroundedPredictor(ImagePredictor[GroundedSam]):
    """Predicts instances; both image encoders see each image once, all images of a call together.

    The detector's thresholds are those of `grounding`. What it finds is scored, and then dropped below
    `score_threshold`.
    """

    @cached_property
    def _thresholds(self) -> list[float]:
        """Score of each class above which a box is a detection."""
        settings = self.model.grounding
        return [settings.class_thresholds.get(name, settings.score_threshold) for name in self.classes]

    @torch.inference_mode()
    def predict_raw(self, images: list[Image]) -> list[list[RawInstance]]:
        """Return the instances of each image with dense masks."""
        detections = self._detect(images)
        shown = [index for index, item in enumerate(detections) if len(item.boxes)]
        found: list[list[RawInstance]] = [[] for _ in images]
        if shown:
            pyramid = self._encode([images[index] for index in shown])
            for place, index in enumerate(shown):
                own = [level[place : place + 1] for level in pyramid]
                found[index] = self._segment(own, detections[index], images[index].shape[:2])
        return found

    def _detect(self, images: list[Image]) -> list[Detections]:
        """Return the boxes that pass the threshold of their class, as fractions of each image."""
        size = self.model.input
        boxed = [letterbox(image, size.height, size.width) for image in images]
        inside = torch.zeros(len(images), size.height, size.width, dtype=torch.int64)
        for row, (_, (height, width)) in zip(inside, boxed, strict=True):
            row[:height, :width] = 1
        inside = inside.to(self.device)
        # The detector was trained with padding of the mean colour.
        pixels = self.pixels([canvas for canvas, _ in boxed], size) * inside[:, None]
        with self.autocast():
            answers = self.model.ask(pixels, inside)
        thresholds = torch.tensor(self._thresholds, device=self.device)
        kept = []
        for item in self.model.best_boxes(answers):
            best = item.scores.max(-1)
            passes = best.values > thresholds[best.indices]
            kept.append(Detections(item.boxes[passes], item.scores[passes]))
        return kept

    def _encode(self, images: list[Image]) -> list[Tensor]:
        """Run SAM's image encoder on whole images, squeezed to its square input as its own transform does."""
        side = input_side(self.model.segmenter)
        squares = [
            np.asarray(PilImage.fromarray(image).resize((side, side), PilImage.Resampling.BILINEAR)) for image in images
        ]
        with self.autocast():
            return encode_image(self.model.segmenter, self.pixels(squares, self.model.input)).pyramid

    def _segment(self, pyramid: list[Tensor], detections: Detections, size: tuple[int, int]) -> list[RawInstance]:
        logits, quality = decode_boxes(self.model.segmenter, pyramid, detections.boxes)
        masks = full_size_masks(logits, size, self.mask_threshold)
        best = detections.scores.max(-1)
        detected, predicted = best.values.tolist(), quality.clamp(0.0, 1.0).tolist()
        scores = predicted if self.model.grounding.score == "predicted_iou" else detected
        ranked = sorted(range(len(scores)), key=lambda index: -scores[index])
        match self.model.grounding.overlaps:
            case "detection_order":
                masks = without_overlaps(masks, range(len(masks)))
            case "score":
                masks = without_overlaps(masks, ranked)
        return [
            RawInstance(int(best.indices[index]), scores[index], detected[index], predicted[index], masks[index])
            for index in ranked
            if masks[index].any() and scores[index] >= self.score_threshold
        ][: self.max_instances]


def full_size_masks(logits: Tensor, size: tuple[int, int], threshold: float) -> NDArray[np.bool_]:
    """Enlarge mask logits bilinearly to an image and cut them.

    Args:
        logits: [n, h, w], over the whole image.
        size: (height, width) of the image.
        threshold: probability above which a pixel belongs to the mask.

    Returns:
        [n, height, width].
    """
    cut = math.log(threshold / (1.0 - threshold))
    parts = [
        (functional.interpolate(part[None], size, mode="bilinear")[0] > cut).cpu().numpy()
        for part in logits.split(BOXES_AT_ONCE)
    ]
    return np.concatenate(parts)


def without_overlaps(masks: NDArray[np.bool_], order: range | list[int]) -> NDArray[np.bool_]:
    """Leave each pixel to the first mask, in `order`, that covers it; masks are [n, height, width]."""
    taken = np.zeros(masks.shape[1:], dtype=np.bool_)
    left = np.zeros_like(masks)
    for index in order:
        left[index] = masks[index] & ~taken
        taken |= masks[index]
    return left
