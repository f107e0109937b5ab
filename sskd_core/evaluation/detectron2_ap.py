"""detectron2's `COCOEvaluator` as a second opinion on mask AP."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import math
import tempfile
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import torch

from sskd_core.data.masks import decode_mask
from sskd_core.data.records import Instance, LabeledImage
from sskd_core.evaluation.instance_ap import coco_document
from sskd_core.models.detectron2_config import require_detectron2


@dataclass(frozen=True)
class SecondOpinion:
    """Mask AP by another evaluator.

    Attributes:
        mask_ap: points, as `InstanceAP` has it.
        evaluator: name and version of what computed it.
    """

    mask_ap: float
    evaluator: str


def detectron2_mask_ap(
    truth: Mapping[str, LabeledImage],
    predictions: Mapping[str, Sequence[Instance]],
    classes: Sequence[str],
    max_detections: int = 100,
) -> SecondOpinion:
    """Compute the mask AP of a split.

    Args:
        truth: annotated images by id.
        predictions: instances by the same ids.
        classes: class names in index order.
        max_detections: best-scored instances of each image and class that count.

    Raises:
        ConfigError: detectron2 is not installed.
    """
    require_detectron2()
    from detectron2.data import MetadataCatalog
    from detectron2.evaluation import COCOEvaluator
    from detectron2.structures import Boxes, Instances

    numbers = {image_id: number for number, image_id in enumerate(truth, 1)}
    name = f"sskd-{uuid.uuid4().hex}"
    with tempfile.TemporaryDirectory() as folder, _silent():
        path = Path(folder) / "truth.json"
        path.write_text(json.dumps(coco_document(truth, numbers, classes)))
        ids = {index + 1: index for index in range(len(classes))}
        MetadataCatalog.get(name).set(
            json_file=str(path), thing_classes=list(classes), thing_dataset_id_to_contiguous_id=ids
        )
        try:
            evaluator = COCOEvaluator(
                name, tasks=("segm",), distributed=False, max_dets_per_image=max_detections, use_fast_impl=False
            )
            evaluator.reset()
            for image_id, image in truth.items():
                found = predictions.get(image_id, ())
                answer = Instances((image.height, image.width))
                answer.scores = torch.tensor([item.score for item in found])
                answer.pred_classes = torch.tensor([item.category for item in found], dtype=torch.int64)
                corners = [(x, y, x + width, y + height) for x, y, width, height in (item.bbox for item in found)]
                answer.pred_boxes = Boxes(torch.tensor(corners).reshape(-1, 4))
                masks = [decode_mask(item.rle) for item in found]
                shape = (0, image.height, image.width)
                answer.pred_masks = torch.from_numpy(np.stack(masks) if masks else np.zeros(shape, np.bool_))
                evaluator.process([{"image_id": numbers[image_id]}], [{"instances": answer}])
            figures = evaluator.evaluate()
        finally:
            MetadataCatalog.remove(name)
    points = float(figures["segm"]["AP"]) if figures else 0.0
    # It says "not a number" when nothing was found.
    return SecondOpinion(0.0 if math.isnan(points) else points, f"detectron2 {_version()} COCOEvaluator")


def _version() -> str:
    import detectron2

    with contextlib.suppress(PackageNotFoundError):
        return version("detectron2")
    return str(detectron2.__version__)


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Keep its tables from the terminal."""
    logger = logging.getLogger("detectron2")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logger.setLevel(level)
