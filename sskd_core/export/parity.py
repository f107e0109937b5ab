"""Does the exported file compute what the network computes? Logit by logit, and as AP on a whole split."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from sskd_core.config.finish import ExportConfig
from sskd_core.data.instances import encode_instance
from sskd_core.data.preprocess import letterbox, to_pixels
from sskd_core.data.records import ImageRecord, Instance, LabeledImage
from sskd_core.errors import UserError
from sskd_core.evaluation.instance_ap import instance_ap
from sskd_core.export.predictor import OnnxPredictor
from sskd_core.models.predict import Predictor
from sskd_core.models.protocol import SegmentationModel

_BATCH = 16


@dataclass(frozen=True)
class Parity:
    """Differences between PyTorch and onnxruntime.

    Attributes:
        max_mask_logit_difference: largest absolute difference over the compared images.
        max_class_logit_difference: likewise.
        mask_ap_pytorch: points, on the split.
        mask_ap_onnx: points, on the split.
    """

    max_mask_logit_difference: float
    max_class_logit_difference: float
    mask_ap_pytorch: float
    mask_ap_onnx: float

    @property
    def mask_ap_difference(self) -> float:
        """Absolute difference of the two APs, points."""
        return abs(self.mask_ap_pytorch - self.mask_ap_onnx)

    def require(self, limits: ExportConfig) -> None:
        """Compare with the limits.

        Raises:
            UserError: a difference is too large.
        """
        if not self.max_mask_logit_difference <= limits.max_logit_difference:
            raise UserError(
                f"the ONNX model's mask logits differ from PyTorch's by {self.max_mask_logit_difference:.2e}, more than "
                f"max_logit_difference {limits.max_logit_difference:.2e}"
            )
        if not self.mask_ap_difference <= limits.max_ap_difference:
            raise UserError(
                f"the ONNX model's mask AP is {self.mask_ap_onnx:.2f} and PyTorch's {self.mask_ap_pytorch:.2f}; "
                f"max_ap_difference is {limits.max_ap_difference}"
            )


def measure_parity(
    model: SegmentationModel,
    exported: OnnxPredictor,
    records: Sequence[ImageRecord],
    truth: Mapping[str, LabeledImage],
    read: Callable[[ImageRecord], NDArray[np.uint8]],
    logit_images: int,
    progress: Callable[[int, int], None],
) -> Parity:
    """Run both on real images.

    Args:
        model: in eval mode, on the CPU.
        exported: the file.
        records: images of the split that AP is computed on.
        truth: their annotations.
        read: decodes a record's image.
        logit_images: how many of them have their logits compared.
        progress: called with (images done, images in all).
    """
    torch_side = Predictor(model)
    by_torch: dict[str, list[Instance]] = {}
    by_onnx: dict[str, list[Instance]] = {}
    mask_difference = class_difference = 0.0
    for start in range(0, len(records), _BATCH):
        chunk = records[start : start + _BATCH]
        images = [read(record) for record in chunk]
        for record, ours, theirs in zip(chunk, torch_side.predict(images), exported.predict(images), strict=True):
            by_torch[record.image_id] = ours
            by_onnx[record.image_id] = [encode_instance(item) for item in theirs]
        if start < logit_images:
            masks, classes = _logit_differences(model, exported, images[: logit_images - start])
            mask_difference, class_difference = max(mask_difference, masks), max(class_difference, classes)
        progress(start + len(chunk), len(records))
    return Parity(
        mask_difference,
        class_difference,
        instance_ap(truth, by_torch, model.classes).mask_ap,
        instance_ap(truth, by_onnx, model.classes).mask_ap,
    )


def _logit_differences(
    model: SegmentationModel, exported: OnnxPredictor, images: Sequence[NDArray[np.uint8]]
) -> tuple[float, float]:
    size = model.input
    pixels = np.stack([to_pixels(letterbox(i, size.height, size.width)[0], size.mean, size.std) for i in images])
    with torch.inference_mode():
        output = model(torch.from_numpy(pixels))
    classes, masks = exported.logits(pixels)
    return (
        float(np.abs(output.mask_logits[-1].numpy() - masks).max()),
        float(np.abs(output.class_logits[-1].numpy() - classes).max()),
    )
