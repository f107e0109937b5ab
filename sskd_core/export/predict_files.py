"""Predicting image files with an exported model: overlays to look at, and one COCO result file to work with."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
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
from sskd_core.errors import DataError, UserError
from sskd_core.export.predictor import OnnxPredictor

RESULTS = "predictions.json"
_BATCH = 4


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
        images: files to read; every one is decoded before the first is predicted.
        output: folder for `<stem>.png` and `predictions.json`: COCO results, where `image_id` counts the images from 1
            and `category_id` the model's classes from 1, with `file_name` and `category_name` beside them. Nothing
            appears in it before all images are done.
        progress: called with (images done, images in all).
        score_threshold: instances with a lower score are dropped.

    Raises:
        DataError: images that cannot be read, all of them at once.
        UserError: the model cannot be used, or the folder cannot be written or holds the images themselves.
    """
    predictor = OnnxPredictor(model, score_threshold)
    _check_readable(images)
    overlays = _overlay_paths(images, output)
    results: list[dict[str, Any]] = []
    written: list[PredictedFile] = []
    with _all_or_nothing(output) as scratch:
        for start in range(0, len(images), _BATCH):
            chunk = images[start : start + _BATCH]
            pixels = [_read(path) for path in chunk]
            for path, picture, found in zip(chunk, pixels, predictor.predict(pixels), strict=True):
                instances = [encode_instance(item) for item in found]
                overlay = overlays[len(written)]
                drawn = draw_instances(picture, instances, predictor.classes)
                Image.fromarray(drawn).save(scratch / overlay.name)
                written.append(PredictedFile(path, overlay, len(instances)))
                results += [_result(len(written), path, item, predictor.classes) for item in instances]
            if progress is not None:
                progress(len(written), len(images))
        (scratch / RESULTS).write_text(json.dumps(results), encoding="utf-8")
    return written


@contextmanager
def _all_or_nothing(output: Path) -> Iterator[Path]:
    """Yield a folder whose files move to `output` when all are written."""
    try:
        output.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=output, prefix=".partial-") as scratch:
            yield Path(scratch)
            for path in sorted(Path(scratch).iterdir()):
                path.replace(output / path.name)
    except OSError as error:
        raise UserError(
            f"{output}: cannot be written: {error.strerror or error}; choose another folder with -o"
        ) from None


def _check_readable(images: Sequence[Path]) -> None:
    problems = [] if images else ["no images to predict; name files or folders of them"]
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


def _overlay_paths(images: Sequence[Path], output: Path) -> list[Path]:
    """Name the pictures by stem, numbered where two images share one.

    Raises:
        UserError: a picture would replace an image that it is drawn from.
    """
    sources = {path.resolve() for path in images}
    taken: dict[str, Path] = {}
    for image in images:
        name, number = image.stem, 2
        while name in taken:
            name, number = f"{image.stem}-{number}", number + 1
        taken[name] = output / f"{name}.png"
        if taken[name].resolve() in sources:
            raise UserError(f"{taken[name]}: the overlay would replace this image; choose another folder with -o")
    return list(taken.values())


def _result(image_id: int, path: Path, item: Instance, classes: Sequence[str]) -> dict[str, Any]:
    return {
        "image_id": image_id,
        "file_name": str(path),
        "category_id": item.category + 1,
        "category_name": classes[item.category],
        "segmentation": item.rle,
        "bbox": list(item.bbox),
        "area": item.area,
        "score": round(item.score, 6),
    }
