"""What the predictors of all families share."""

from __future__ import annotations

from typing import Generic, TypeVar

import numpy as np
import torch
from torch import Tensor

from sskd_core.config.model import InputConfig
from sskd_core.data.instances import encode_instance
from sskd_core.data.preprocess import RawInstance, to_pixels
from sskd_core.data.records import Instance
from sskd_core.models.protocol import Image, SegmentationModel

ModelT = TypeVar("ModelT", bound=SegmentationModel)


class ImagePredictor(Generic[ModelT]):
    """Predicts instances; one forward pass for all images of a call.

    Args:
        model: in eval mode; its device is used.
        score_threshold: instances with a lower score are dropped.
        max_instances: kept per image, best first.
        mask_threshold: probability above which a pixel belongs to a mask.
    """

    def __init__(
        self,
        model: ModelT,
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

    def predict_raw(self, images: list[Image]) -> list[list[RawInstance]]:
        """Return the instances of each image with dense masks."""
        raise NotImplementedError

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return next(self.model.parameters()).device

    def autocast(self) -> torch.autocast:
        """Return the arithmetic of a forward pass: bfloat16 on CUDA."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda")

    def pixels(self, canvases: list[Image], size: InputConfig) -> Tensor:
        """Normalise images of one size to [B, 3, H, W] on the network's device."""
        planes = np.stack([to_pixels(canvas, size.mean, size.std) for canvas in canvases])
        return torch.from_numpy(planes).to(self.device)
