"""What `mlflow models serve` runs: images in, instances with run lengths and polygons out.

MLflow loads this module by name from the model's folder, which carries it and what it imports; nothing is unpickled.
Beside MLflow it needs numpy, Pillow and onnxruntime. The signature of the model describes requests and answers.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from mlflow.exceptions import MlflowException
from numpy.typing import NDArray

from sskd_core.data.images import decode_image
from sskd_core.data.polygons import encode_rle, mask_polygons
from sskd_core.data.preprocess import RawInstance
from sskd_core.errors import DataError
from sskd_core.export.predictor import OnnxPredictor, OnnxSegmenter, find_regions, open_predictor

if TYPE_CHECKING:
    import pandas as pd

IMAGE = "image"
"""The column of a request: the bytes of an image file, base64 in JSON."""
DEFAULTS: dict[str, float | int | bool] = {"score_threshold": 0.3, "max_instances": 100, "polygons": True}
"""Parameters of a request that the caller may leave out."""
_BATCH = 8
_BASE64 = re.compile(rb"[A-Za-z0-9+/=\s]+")
_LOOK_AHEAD = 256


class ServedModel:
    """Answers requests.

    Args:
        predictor: runs the exported file.
    """

    def __init__(self, predictor: OnnxPredictor | OnnxSegmenter) -> None:
        self._predictor = predictor

    def predict(self, model_input: pd.DataFrame, params: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        """Predict the images of a request.

        Args:
            model_input: one row an image, its file's bytes in the column `image`.
            params: overrides of `DEFAULTS`.

        Returns:
            For each image its `width`, `height` and `instances`; of a semantic model, one region for each class on it.

        Raises:
            MlflowException: a parameter is out of range, or an image cannot be read; the server answers 400.
        """
        settings = {**DEFAULTS, **(params or {})}
        _check(settings)
        files = list(model_input[IMAGE])
        answers: list[dict[str, Any]] = []
        for start in range(0, len(files), _BATCH):
            batch = enumerate(files[start : start + _BATCH], start)
            answers += self._answer([_decode(data, f"image {number}") for number, data in batch], settings)
        return answers

    def _answer(self, images: list[NDArray[np.uint8]], settings: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        regions = find_regions(self._predictor, images, settings["score_threshold"], settings["max_instances"])
        for image, items in zip(images, regions, strict=True):
            found = [self._region(item, settings["polygons"]) for item in items]
            yield {"width": image.shape[1], "height": image.shape[0], "instances": found}

    def _region(self, item: RawInstance, polygons: bool) -> dict[str, Any]:
        mask = item.mask
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        x, y = float(columns[0]), float(rows[0])
        return {
            "category": item.category,
            "class": self._predictor.classes[item.category],
            "score": item.score,
            "bbox": [x, y, float(columns[-1] + 1 - x), float(rows[-1] + 1 - y)],
            "area": int(mask.sum()),
            "segmentation": encode_rle(mask),
            "polygons": mask_polygons(mask) if polygons else [],
        }


def _load_pyfunc(path: str) -> ServedModel:
    """Open the exported file; MLflow calls this."""
    return ServedModel(open_predictor(path))


def _check(settings: Mapping[str, Any]) -> None:
    if not 0.0 <= settings["score_threshold"] <= 1.0:
        raise _bad_request(f"score_threshold must lie between 0 and 1, got {settings['score_threshold']}")
    if settings["max_instances"] < 1:
        raise _bad_request(f"max_instances must be at least 1, got {settings['max_instances']}")


def _decode(data: object, name: str) -> NDArray[np.uint8]:
    if not isinstance(data, bytes):
        raise _bad_request(f"{name}: the bytes of an image file are expected, got {type(data).__name__}")
    try:
        return decode_image(_file(data), name)
    except DataError as error:
        raise _bad_request(str(error)) from None


def _file(data: bytes) -> bytes:
    """Undo base64, which MLflow does for some formats of a request and not for others. No image file is such text."""
    if not _BASE64.fullmatch(data[:_LOOK_AHEAD]):
        return data
    try:
        return base64.b64decode(data)
    except binascii.Error:
        return data


def _bad_request(reason: str) -> MlflowException:
    error: MlflowException = MlflowException.invalid_parameter_value(reason)
    return error
