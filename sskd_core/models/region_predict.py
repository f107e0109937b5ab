"""From images to instances with a `RegionModel`: masks pasted at the image's own size, scored as the network does."""

from __future__ import annotations

import math

import numpy as np
import torch

from sskd_core.data.preprocess import RawInstance, letterbox
from sskd_core.models.predictor import ImagePredictor
from sskd_core.models.protocol import Image
from sskd_core.models.region import RegionModel, Regions


class RegionPredictor(ImagePredictor[RegionModel]):
    """Predicts instances; an instance's score is its class score."""

    @torch.inference_mode()
    def predict_raw(self, images: list[Image]) -> list[list[RawInstance]]:
        """Return the instances of each image with dense masks."""
        size = self.model.input
        boxed = [letterbox(image, size.height, size.width) for image in images]
        # The network's masks cover the padded input, so they are asked for at the size of the padded image.
        wanted = [
            (math.ceil(image.shape[0] * size.height / inside[0]), math.ceil(image.shape[1] * size.width / inside[1]))
            for image, (_, inside) in zip(images, boxed, strict=True)
        ]
        found = self.model.detect(self.pixels([canvas for canvas, _ in boxed], size), wanted)
        return [self._instances(regions, image) for regions, image in zip(found, images, strict=True)]

    def _instances(self, regions: Regions, image: Image) -> list[RawInstance]:
        kept: list[RawInstance] = []
        for index, (label, score) in enumerate(zip(regions.labels.tolist(), regions.scores.tolist(), strict=True)):
            if score < self.score_threshold or len(kept) == self.max_instances:
                break
            probability = regions.paste(index)[: image.shape[0], : image.shape[1]].float().cpu().numpy()
            mask = probability > np.float32(self.mask_threshold)
            if mask.any():
                kept.append(RawInstance(label, score, score, float(probability[mask].mean()), mask))
        return kept
