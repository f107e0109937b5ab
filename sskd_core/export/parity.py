"""Does an exported file compute what the network computes? Logit by logit, and as AP on a whole split."""

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
from sskd_core.evaluation.instance_ap import instance_ap, instance_ap_and_matches
from sskd_core.evaluation.matches import SplitMatches
from sskd_core.evaluation.predictions import ReadImage, predict_split
from sskd_core.export.predictor import OnnxPredictor
from sskd_core.models.predict import Predictor
from sskd_core.models.protocol import SegmentationModel

_BATCH = 16
Progress = Callable[[int], None]
"""Called after each batch with the number of images done."""


@dataclass(frozen=True)
class Split:
    """The annotated images that AP is computed on.

    Attributes:
        records: its images.
        truth: their annotations by image id.
        read: decodes a record's image.
    """

    records: Sequence[ImageRecord]
    truth: Mapping[str, LabeledImage]
    read: ReadImage


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

    @property
    def mask_ap_loss(self) -> float:
        """What the exported file loses, points; negative where it gains."""
        return self.mask_ap_pytorch - self.mask_ap_onnx

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


@dataclass(frozen=True)
class Compared:
    """One exported file beside the network.

    Attributes:
        parity: how they differ.
        found: the file's instances by image id.
        matches: which of them are right.
    """

    parity: Parity
    found: dict[str, list[Instance]]
    matches: SplitMatches


def network_ap(model: SegmentationModel, split: Split, progress: Progress) -> float:
    """Return the mask AP of the network itself, in eval mode, on the CPU."""
    found = predict_split(Predictor(model).predict, split.records, split.read, _BATCH, progress)
    return instance_ap(split.truth, found, model.classes).mask_ap


def compare(
    model: SegmentationModel,
    mask_ap: float,
    exported: OnnxPredictor,
    split: Split,
    logit_images: int,
    progress: Progress,
) -> Compared:
    """Run an exported file on real images.

    Args:
        model: in eval mode, on the CPU.
        mask_ap: of the model on the split, from `network_ap`.
        exported: the file.
        split: what AP is computed on.
        logit_images: how many of its images, from the first, have their logits compared.
        progress: see `Progress`.
    """

    def predict(images: list[NDArray[np.uint8]]) -> list[list[Instance]]:
        return [[encode_instance(item) for item in found] for found in exported.predict(images)]

    masks, classes = _logit_differences(model, exported, split.records[:logit_images], split.read)
    found = predict_split(predict, split.records, split.read, _BATCH, progress)
    figures, matches = instance_ap_and_matches(split.truth, found, model.classes)
    return Compared(Parity(masks, classes, mask_ap, figures.mask_ap), found, matches)


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
