"""Predicting image files with an exported model: overlays to look at, and one COCO result file to work with."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sskd_core.data.draw import draw_instances
from sskd_core.data.images import decode_image
from sskd_core.data.instances import encode_instance
from sskd_core.data.records import Instance
from sskd_core.errors import DataError
from sskd_core.export.predictor import OnnxPredictor

RESULTS = "predictions.json"
_BATCH = 8


@dataclass(frozen=True)
class PredictedFile:
    """One image and what was written for it.

    Attributes:
        image: the file that was read.
        overlay: the picture that was written.
        instances: number of objects on it.
    """

    image: Path
    overlay: Path
    instances: int


def predict_files(
    model: Path,
    images: Sequence[Path],
    output: Path,
    progress: Callable[[int, int], None] | None = None,
    score_threshold: float = 0.3,
) -> list[PredictedFile]:
    """Predict and draw.

    Args:
        model: ONNX file of `export_onnx`.
        images: files to read.
        output: folder for `<stem>.png` and `predictions.json` (COCO results, `image_id` is the file's name); nothing
            appears in it before all images are done.
        progress: called with (images done, images in all).
        score_threshold: instances with a lower score are dropped.

    Raises:
        DataError: images that cannot be read, all of them at once.
        UserError: the model cannot be used.
    """
    predictor = OnnxPredictor(model, score_threshold)
    _check_readable(images)
    names = _overlay_names(images)
    results: list[dict[str, Any]] = []
    written: list[PredictedFile] = []
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output, prefix=".partial-") as scratch:
        for start in range(0, len(images), _BATCH):
            chunk = images[start : start + _BATCH]
            pixels = [_read(path) for path in chunk]
            for path, picture, found in zip(chunk, pixels, predictor.predict(pixels), strict=True):
                instances = [encode_instance(item) for item in found]
                overlay = draw_instances(picture, instances, predictor.classes)
                Image.fromarray(overlay).save(Path(scratch) / names[path])
                results += [_result(path.name, item, predictor.classes) for item in instances]
                written.append(PredictedFile(path, output / names[path], len(instances)))
            if progress is not None:
                progress(len(written), len(images))
        (Path(scratch) / RESULTS).write_text(json.dumps(results), encoding="utf-8")
        for path in sorted(Path(scratch).iterdir()):
            path.replace(output / path.name)
    return written


def _check_readable(images: Sequence[Path]) -> None:
    problems = []
    for path in images:
        try:
            _read(path)
        except DataError as error:
            problems += error.problems
    if problems:
        raise DataError(problems)


def _read(path: Path) -> NDArray[np.uint8]:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    return decode_image(data, str(path))


def _overlay_names(images: Sequence[Path]) -> dict[Path, str]:
    """Name the pictures by stem, numbered where two images share one."""
    names: dict[Path, str] = {}
    taken: set[str] = set()
    for path in images:
        name, number = f"{path.stem}.png", 2
        while name in taken:
            name, number = f"{path.stem}-{number}.png", number + 1
        names[path] = name
        taken.add(name)
    return names


def _result(image_id: str, item: Instance, classes: Sequence[str]) -> dict[str, Any]:
    return {
        "image_id": image_id,
        "category": classes[item.category],
        "category_id": item.category,
        "segmentation": item.rle,
        "bbox": list(item.bbox),
        "area": item.area,
        "score": round(item.score, 6),
    }
