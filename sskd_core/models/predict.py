"""From images to instances with a PyTorch network: the `Teacher` of every stage that labels or evaluates."""

from __future__ import annotations

import numpy as np
import torch

from sskd_core.data.instances import encode_instance
from sskd_core.data.preprocess import RawInstance, instances_from_logits, letterbox, to_pixels
from sskd_core.data.records import Instance
from sskd_core.models.protocol import Image, SegmentationModel, Teacher


class Predictor:
    """Predicts instances; one forward pass for all images of a call.

    Args:
        model: in eval mode; its device is used.
        score_threshold: instances with a lower class score x mask score are dropped.
        max_instances: kept per image.
        mask_threshold: probability above which a pixel belongs to a mask.
    """

    def __init__(
        self,
        model: SegmentationModel,
        score_threshold: float = 0.0,
        max_instances: int = 100,
        mask_threshold: float = 0.5,
    ) -> None:
        self.model = model
        self.classes = model.classes
        self.score_threshold = score_threshold
        self.max_instances = max_instances
        self.mask_threshold = mask_threshold

    def predict(self, images: list[Image]) -> list[list[Instance]]:
        """Return the instances of each image, best score first, masks at the image's own size."""
        return [[encode_instance(item) for item in found] for found in self.predict_raw(images)]

    @torch.inference_mode()
    def predict_raw(self, images: list[Image]) -> list[list[RawInstance]]:
        """Return the instances of each image with dense masks."""
        size = self.model.input
        boxed = [letterbox(image, size.height, size.width) for image in images]
        pixels = np.stack([to_pixels(canvas, size.mean, size.std) for canvas, _ in boxed])
        device = next(self.model.parameters()).device
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            output = self.model(torch.from_numpy(pixels).to(device))
        classes = output.class_logits[-1].float().cpu().numpy()
        masks = output.mask_logits[-1].float().cpu().numpy()
        return [
            instances_from_logits(
                classes[index],
                masks[index],
                (size.height, size.width),
                resized,
                (images[index].shape[0], images[index].shape[1]),
                self.max_instances,
                self.score_threshold,
                self.mask_threshold,
            )
            for index, (_, resized) in enumerate(boxed)
        ]


def make_predictor(
    model: SegmentationModel, score_threshold: float = 0.0, max_instances: int = 100, mask_threshold: float = 0.5
) -> Teacher:
    """Return the predictor of the model's family; the arguments are those of `Predictor`."""
    if model.config.family == "grounded_sam":
        # Imported where it is used: its networks take seconds to import.
        from sskd_core.models.grounded_predict import GroundedPredictor
        from sskd_core.models.grounded_sam import GroundedSam

        assert isinstance(model, GroundedSam)
        return GroundedPredictor(model, score_threshold, max_instances, mask_threshold)
    return Predictor(model, score_threshold, max_instances, mask_threshold)
