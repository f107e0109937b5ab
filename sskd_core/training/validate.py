"""Mask AP of a network on the val split, between training steps."""

from __future__ import annotations

from collections.abc import Mapping

from sskd_core.data.records import ImageRecord, LabeledImage
from sskd_core.evaluation.instance_ap import instance_ap
from sskd_core.evaluation.predictions import ReadImage, predict_split
from sskd_core.models.predict import make_predictor
from sskd_core.models.protocol import SegmentationModel

_BATCH = 16


class Validator:
    """Computes mask AP, points.

    Args:
        records: images of the split.
        truth: their annotations by image id.
        read: decodes a record's image.
    """

    def __init__(
        self,
        records: list[ImageRecord],
        truth: Mapping[str, LabeledImage],
        read: ReadImage,
    ) -> None:
        self._records, self._truth, self._read = records, truth, read

    def __call__(self, model: SegmentationModel) -> float:
        """Return the mask AP of a model in eval mode."""
        found = predict_split(make_predictor(model).predict, self._records, self._read, _BATCH)
        return instance_ap(self._truth, found, model.classes).mask_ap
