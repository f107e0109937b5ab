"""Mask AP as COCO defines it, computed by hotcoco; pycocotools is the oracle in the tests.

Predictions stay run-length encoded, so memory grows with the number of instances and not with pixels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Any

import hotcoco
import numpy as np
from numpy.typing import NDArray

from sskd_core.data.records import Instance, LabeledImage
from sskd_core.errors import DataError
from sskd_core.evaluation.matches import THRESHOLDS, ClassMatches, truths_alone

_IOU_50, _IOU_75 = 0, 5
_ALL_AREAS = 0


@dataclass(frozen=True)
class InstanceAP:
    """Mask average precision in points, 0..100.

    Attributes:
        mask_ap: mean over IoU 0.50:0.05:0.95 and over the classes that occur in the truth; 0 when none occurs.
        mask_ap50: at IoU 0.50.
        mask_ap75: at IoU 0.75.
        per_class: class -> mask AP; None for a class that does not occur.
        evaluator: name and version of what computed it.
        images: number of images.
    """

    mask_ap: float
    mask_ap50: float
    mask_ap75: float
    per_class: dict[str, float | None]
    evaluator: str
    images: int

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)


def evaluator_name() -> str:
    """Return name and version of the evaluator."""
    return f"hotcoco {version('hotcoco')}"


def instance_ap(
    truth: Mapping[str, LabeledImage],
    predictions: Mapping[str, Sequence[Instance]],
    classes: Sequence[str],
    max_detections: int = 100,
) -> InstanceAP:
    """Compute the mask AP of a split.

    Args:
        truth: annotated images by id; crowd instances are regions where predictions do not count.
        predictions: instances by the same ids; an image without an entry has none.
        classes: class names in index order.
        max_detections: best-scored instances of each image and class that count.

    Raises:
        DataError: a prediction for an image that the truth does not hold.
    """
    evaluation = _evaluated(truth, predictions, classes, max_detections)
    return _nothing_found(truth, classes) if evaluation is None else _figures(evaluation, classes, len(truth))


def instance_ap_and_matches(
    truth: Mapping[str, LabeledImage],
    predictions: Mapping[str, Sequence[Instance]],
    classes: Sequence[str],
    max_detections: int = 100,
) -> tuple[InstanceAP, dict[str, list[ClassMatches]]]:
    """Compute the mask AP of a split and what it rests on; arguments and errors are those of `instance_ap`.

    Returns:
        The figures, and for every image which detection found which object.
    """
    evaluation = _evaluated(truth, predictions, classes, max_detections)
    if evaluation is None:
        return _nothing_found(truth, classes), truths_alone(truth)
    return _figures(evaluation, classes, len(truth)), _matches(evaluation, list(truth))


def _evaluated(
    truth: Mapping[str, LabeledImage],
    predictions: Mapping[str, Sequence[Instance]],
    classes: Sequence[str],
    max_detections: int,
) -> hotcoco.COCOeval | None:
    """Match and accumulate; None without a prediction or without an object, which hotcoco does not take."""
    stray = sorted(set(predictions) - set(truth))
    if stray:
        raise DataError(f"prediction for image '{stray[0]}', which is not in the annotated split")
    numbers = {image_id: number for number, image_id in enumerate(truth, 1)}
    found = _detections(predictions, numbers)
    if not found or not any(image.instances for image in truth.values()):
        return None
    reference = hotcoco.COCO(coco_document(truth, numbers, classes))
    evaluation = hotcoco.COCOeval(reference, reference.load_res(found), "segm")
    evaluation.params.max_dets = [1, min(10, max_detections), max_detections]
    evaluation.evaluate()
    evaluation.accumulate()
    return evaluation


def _matches(evaluation: hotcoco.COCOeval, image_ids: Sequence[str]) -> dict[str, list[ClassMatches]]:
    """Read hotcoco's matching: an entry for each image, class and area range that has anything."""
    found: dict[str, list[ClassMatches]] = {image_id: [] for image_id in image_ids}
    all_areas = evaluation.params.area_rng[_ALL_AREAS]
    for entry in evaluation.eval_imgs:
        if entry is not None and entry["aRng"] == all_areas:
            found[image_ids[entry["image_id"] - 1]].append(_class_matches(entry))
    return {image_id: sorted(items, key=lambda item: item.category) for image_id, items in found.items()}


def _class_matches(entry: Mapping[str, Any]) -> ClassMatches:
    bits = 1 << np.arange(THRESHOLDS)[:, None]
    scores = np.asarray(entry["dtScores"], dtype=np.float64)
    matched = np.asarray(entry["dtMatches"]).reshape(THRESHOLDS, scores.size) > 0
    ignored = np.asarray(entry["dtIgnore"], dtype=np.bool_).reshape(THRESHOLDS, scores.size)
    return ClassMatches(
        category=entry["category_id"] - 1,
        truths=int(np.sum(np.asarray(entry["gtIgnore"], dtype=np.bool_) == 0)),
        scores=scores.tolist(),
        matched=(matched * bits).sum(axis=0).tolist(),
        ignored=(ignored * bits).sum(axis=0).tolist(),
    )


def _figures(evaluation: hotcoco.COCOeval, classes: Sequence[str], images: int) -> InstanceAP:
    assert evaluation.eval is not None
    # [IoU, recall, class, area, max detections]; -1 where a class does not occur in the truth.
    precision = np.asarray(evaluation.eval["precision"])[:, :, :, _ALL_AREAS, -1]

    def mean(part: NDArray[np.float64]) -> float | None:
        valid = part[part > -1]
        return None if valid.size == 0 else 100.0 * float(valid.mean())

    return InstanceAP(
        mask_ap=mean(precision) or 0.0,
        mask_ap50=mean(precision[_IOU_50]) or 0.0,
        mask_ap75=mean(precision[_IOU_75]) or 0.0,
        per_class={name: mean(precision[:, :, index]) for index, name in enumerate(classes)},
        evaluator=evaluator_name(),
        images=images,
    )


def _nothing_found(truth: Mapping[str, LabeledImage], classes: Sequence[str]) -> InstanceAP:
    """COCO's figures without a single prediction: 0 for every class that occurs."""
    occurring = {item.category for image in truth.values() for item in image.instances if not item.is_crowd}
    per_class = {name: 0.0 if index in occurring else None for index, name in enumerate(classes)}
    return InstanceAP(0.0, 0.0, 0.0, per_class, evaluator_name(), len(truth))


def coco_document(
    truth: Mapping[str, LabeledImage], numbers: Mapping[str, int], classes: Sequence[str]
) -> dict[str, Any]:
    """Return annotations in COCO's format; category ids are class indices + 1, image ids are `numbers`."""
    annotations: list[dict[str, Any]] = []
    for image_id, image in truth.items():
        for item in image.instances:
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": numbers[image_id],
                    "category_id": item.category + 1,
                    "segmentation": item.rle,
                    "area": item.area,
                    "bbox": list(item.bbox),
                    "iscrowd": int(item.is_crowd),
                }
            )
    return {
        "images": [
            {"id": numbers[image_id], "width": image.width, "height": image.height} for image_id, image in truth.items()
        ],
        "annotations": annotations,
        "categories": [{"id": index + 1, "name": name} for index, name in enumerate(classes)],
    }


def _detections(predictions: Mapping[str, Sequence[Instance]], numbers: Mapping[str, int]) -> list[dict[str, Any]]:
    return [
        {
            "image_id": numbers[image_id],
            "category_id": item.category + 1,
            "segmentation": item.rle,
            "score": item.score,
            "area": item.area,
        }
        for image_id, instances in predictions.items()
        for item in instances
    ]
