"""Predicting pictures with an exported model: overlays to look at, one COCO result file and masks to work with."""

from __future__ import annotations

import itertools
import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sskd_core.data.draw import draw_instances
from sskd_core.data.instances import encode_instance
from sskd_core.data.preprocess import RawInstance
from sskd_core.data.records import Instance
from sskd_core.errors import DataError, UserError
from sskd_core.export.inputs import InputFile, Picture, read_pictures
from sskd_core.export.predictor import find_regions, open_predictor

RESULTS = "predictions.json"
MASKS = "masks"
_MAX_INSTANCES = 100


@dataclass(frozen=True)
class PredictOptions:
    """How to predict and what to write.

    Attributes:
        score_threshold: instances with a lower score are dropped.
        batch: pictures in one run of the network.
        frame_step: of a video, every so many frames.
        overlays: write a picture with the instances drawn on it.
        masks: write a mask image.
    """

    score_threshold: float = 0.3
    batch: int = 4
    frame_step: int = 1
    overlays: bool = True
    masks: bool = False


@dataclass(frozen=True)
class PredictedPicture:
    """One picture and what was written for it.

    Attributes:
        location: the file that was read.
        frame: number of the frame of a video, None for an image.
        overlay: the picture that was written, or None.
        mask: the mask image that was written, or None.
        instances: number of objects on it.
    """

    location: str
    frame: int | None
    overlay: Path | None
    mask: Path | None
    instances: int


def predict_files(
    model: Path,
    inputs: Sequence[InputFile],
    output: Path,
    options: PredictOptions | None = None,
    progress: Callable[[int], None] | None = None,
) -> list[PredictedPicture]:
    """Predict and write.

    Args:
        model: ONNX file of `export_onnx`.
        inputs: what to read; each file is read once, and no more pictures than a batch are in memory.
        output: folder for `<stem>.png`, `masks/<stem>.png` and `predictions.json`: COCO results, where `image_id`
            counts the pictures from 1 and `category_id` the model's classes from 1, with `file_name`, `frame` (of a
            video) and `category_name` beside them. A pixel of a mask image is the `mask_value` of a result, 0 where
            there is none; where two overlap, the better score wins. Nothing appears in the folder before all pictures
            are done.
        options: default: `PredictOptions()`.
        progress: called with the number of pictures done.

    Raises:
        DataError: files that cannot be read, all of them at once.
        UserError: the model cannot be used, or the folder cannot be written or holds the images themselves.
    """
    chosen = options or PredictOptions()
    predictor = open_predictor(model)
    problems: list[str] = []
    with _all_or_nothing(output) as scratch:
        writer = _Writer(scratch, output, {item.file.location for item in inputs}, predictor.classes, chosen)
        pictures = _readable(inputs, chosen.frame_step, problems)
        while batch := list(itertools.islice(pictures, chosen.batch)):
            images = [picture.pixels for picture in batch]
            found = find_regions(predictor, images, chosen.score_threshold, _MAX_INSTANCES)
            for picture, regions in zip(batch, found, strict=True):
                writer.write(picture, regions)
            if progress is not None:
                progress(len(writer.written))
        if problems:
            raise DataError(problems)
        if not writer.written:
            raise DataError("no images to predict; name files or folders of them")
        (scratch / RESULTS).write_text(json.dumps(writer.results), encoding="utf-8")
    return writer.written


def _readable(inputs: Sequence[InputFile], frame_step: int, problems: list[str]) -> Iterator[Picture]:
    """Yield the pictures until a file cannot be read; then go on to look for more such files, and yield nothing."""
    for item in inputs:
        try:
            for picture in read_pictures(item, frame_step):
                if not problems:
                    yield picture
        except DataError as error:
            problems += error.problems


@dataclass
class _Writer:
    """Writes what was found, picture by picture.

    Attributes:
        scratch: the folder to write to.
        output: where its files will be in the end.
        sources: the files that are read.
        classes: names in index order.
        options: what to write.
        written: the pictures so far.
        results: their COCO results.
    """

    scratch: Path
    output: Path
    sources: set[str]
    classes: Sequence[str]
    options: PredictOptions
    written: list[PredictedPicture] = field(default_factory=list)
    results: list[dict[str, Any]] = field(default_factory=list)
    _taken: set[str] = field(default_factory=set)

    def write(self, picture: Picture, regions: Sequence[RawInstance]) -> None:
        """Write one picture's files and remember its results."""
        name = self._name(picture.stem)
        instances = [encode_instance(item) for item in regions]
        overlay = mask = None
        if self.options.overlays:
            overlay = self.output / name
            if str(overlay.resolve()) in self.sources:
                raise UserError(f"{overlay}: the overlay would replace this image; choose another folder with -o")
            drawn = draw_instances(picture.pixels, instances, self.classes)
            Image.fromarray(drawn).save(self.scratch / name)
        if self.options.masks:
            mask = self.output / MASKS / name
            (self.scratch / MASKS).mkdir(exist_ok=True)
            mask_image(regions, picture.pixels.shape[:2]).save(self.scratch / MASKS / name)
        self.written.append(PredictedPicture(picture.location, picture.frame, overlay, mask, len(instances)))
        self.results += [self._result(picture, rank, item) for rank, item in enumerate(instances, 1)]

    def _name(self, stem: str) -> str:
        """Name the picture by its stem, numbered where two share one."""
        name, number = stem, 2
        while name in self._taken:
            name, number = f"{stem}-{number}", number + 1
        self._taken.add(name)
        return f"{name}.png"

    def _result(self, picture: Picture, rank: int, item: Instance) -> dict[str, Any]:
        return {
            "image_id": len(self.written),
            "file_name": picture.location,
            **({} if picture.frame is None else {"frame": picture.frame}),
            "category_id": item.category + 1,
            "category_name": self.classes[item.category],
            "segmentation": item.rle,
            "bbox": list(item.bbox),
            "area": item.area,
            "score": round(item.score, 6),
            **({"mask_value": rank} if self.options.masks else {}),
        }


def mask_image(regions: Sequence[RawInstance], size: tuple[int, ...]) -> Image.Image:
    """Return a 16-bit grey image whose pixels count the regions from 1; the first ones lie on top."""
    values: NDArray[np.uint16] = np.zeros(size, dtype=np.uint16)
    for rank in range(len(regions), 0, -1):
        values[regions[rank - 1].mask] = rank
    return Image.fromarray(values)


@contextmanager
def _all_or_nothing(output: Path) -> Iterator[Path]:
    """Yield a folder whose files move to `output` when all are written; a folder that this made is removed again."""
    made = not output.exists()
    try:
        output.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=output, prefix=".partial-") as scratch:
            yield Path(scratch)
            for path in sorted(item for item in Path(scratch).rglob("*") if item.is_file()):
                target = output / path.relative_to(scratch)
                target.parent.mkdir(exist_ok=True)
                path.replace(target)
    except OSError as error:
        raise UserError(
            f"{output}: cannot be written: {error.strerror or error}; choose another folder with -o"
        ) from None
    finally:
        if made and output.is_dir() and not any(output.iterdir()):
            output.rmdir()
