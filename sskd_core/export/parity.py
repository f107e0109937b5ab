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
from sskd_core.evaluation.predictions import ReadImage, predict_split
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
        """Compare with the limits; a difference that is not a number passes none.

        Raises:
            UserError: a difference is too large.
        """
        for kind, difference in (("mask", self.max_mask_logit_difference), ("class", self.max_class_logit_difference)):
            if not difference <= limits.max_logit_difference:
                raise UserError(
                    f"the ONNX model's {kind} logits differ from PyTorch's by {difference:.2e}, more than "
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
    read: ReadImage,
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
        logit_images: how many of them, from the first, have their logits compared.
        progress: called with (predictions done, predictions in all); there are two an image.
    """

    def predict_exported(images: list[NDArray[np.uint8]]) -> list[list[Instance]]:
        return [[encode_instance(item) for item in found] for found in exported.predict(images)]

    images, total = len(records), 2 * len(records)
    masks, classes = _logit_differences(model, exported, records[:logit_images], read)
    by_torch = predict_split(Predictor(model).predict, records, read, _BATCH, lambda done: progress(done, total))
    by_onnx = predict_split(predict_exported, records, read, _BATCH, lambda done: progress(images + done, total))
    return Parity(
        masks,
        classes,
        instance_ap(truth, by_torch, model.classes).mask_ap,
        instance_ap(truth, by_onnx, model.classes).mask_ap,
    )


@torch.inference_mode()
def _logit_differences(
    model: SegmentationModel, exported: OnnxPredictor, records: Sequence[ImageRecord], read: ReadImage
) -> tuple[float, float]:
    """Return the largest absolute difference of mask and of class logits; NaN where either side has one."""
    size = model.input
    differences = []
    for start in range(0, len(records), _BATCH):
        boxed = [letterbox(read(record), size.height, size.width)[0] for record in records[start : start + _BATCH]]
        pixels = np.stack([to_pixels(image, size.mean, size.std) for image in boxed])
        output = model(torch.from_numpy(pixels))
        classes, masks = exported.logits(pixels)
        differences.append(
            (
                np.abs(output.mask_logits[-1].numpy() - masks).max(),
                np.abs(output.class_logits[-1].numpy() - classes).max(),
            )
        )
    largest = np.max(differences, axis=0)
    return float(largest[0]), float(largest[1])
