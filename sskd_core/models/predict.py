"""From images to instances with a PyTorch network: the `Teacher` of every stage that labels or evaluates."""

from __future__ import annotations

import torch

from sskd_core.data.preprocess import RawInstance, instances_from_logits, letterbox
from sskd_core.models.predictor import ImagePredictor
from sskd_core.models.protocol import Image, SegmentationModel, Teacher
from sskd_core.models.region import RegionModel
from sskd_core.models.region_predict import RegionPredictor


class Predictor(ImagePredictor[SegmentationModel]):
    """Predicts instances from queries; an instance's score is its class score x its mask score."""

    @torch.inference_mode()
    def predict_raw(self, images: list[Image]) -> list[list[RawInstance]]:
        """Return the instances of each image with dense masks."""
        size = self.model.input
        boxed = [letterbox(image, size.height, size.width) for image in images]
        pixels = self.pixels([canvas for canvas, _ in boxed], size)
        with self.autocast():
            output = self.model(pixels)
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
    """Return the predictor of the model's family; the arguments are those of `ImagePredictor`."""
    if model.config.family == "grounded_sam":
        # Imported where it is used: its networks take seconds to import.
        from sskd_core.models.grounded_predict import GroundedPredictor
        from sskd_core.models.grounded_sam import GroundedSam

        assert isinstance(model, GroundedSam)
        return GroundedPredictor(model, score_threshold, max_instances, mask_threshold)
    if isinstance(model, RegionModel):
        return RegionPredictor(model, score_threshold, max_instances, mask_threshold)
    return Predictor(model, score_threshold, max_instances, mask_threshold)
