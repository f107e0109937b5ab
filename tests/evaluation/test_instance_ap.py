"""Mask AP against pycocotools on many random splits, and its corner cases."""

from __future__ import annotations

import contextlib
import io
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from random_splits import CLASSES, SIDE, Predictions, Truth, random_split, rectangle

from sskd_core.data.records import Instance, LabeledImage
from sskd_core.errors import DataError
from sskd_core.evaluation.instance_ap import InstanceAP, evaluator_name, instance_ap


def oracle(truth: Truth, predictions: Predictions, max_detections: int) -> tuple[list[float], dict[str, float | None]]:
    """Return pycocotools' AP, AP50 and AP75 in points (0 where it says -1), and the AP of each class."""
    ids = {image_id: number for number, image_id in enumerate(truth)}
    pairs = [(ids[image_id], item) for image_id, image in truth.items() for item in image.instances]
    reference = COCO()
    reference.dataset = {
        "images": [{"id": number, "height": SIDE, "width": SIDE} for number in ids.values()],
        "categories": [{"id": index, "name": name} for index, name in enumerate(CLASSES)],
        "annotations": [
            {"id": number, "image_id": image, **coco_fields(item), "iscrowd": int(item.is_crowd)}
            for number, (image, item) in enumerate(pairs, 1)
        ],
    }
    results = [
        {"image_id": ids[image_id], **coco_fields(item), "score": item.score}
        for image_id, items in predictions.items()
        for item in items
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        reference.createIndex()
        evaluation = COCOeval(reference, reference.loadRes(results) if results else COCO(), "segm")
        evaluation.params.imgIds = list(ids.values())
        evaluation.params.catIds = list(range(len(CLASSES)))
        evaluation.params.maxDets = [1, min(10, max_detections), max_detections]
        evaluation.evaluate()
        evaluation.accumulate()
    precision = evaluation.eval["precision"][:, :, :, 0, -1]

    def mean(part: np.ndarray) -> float | None:
        return float(part[part > -1].mean()) * 100 if (part > -1).any() else None

    overall = [mean(part) or 0.0 for part in (precision, precision[0], precision[5])]
    return overall, {name: mean(precision[:, :, index]) for index, name in enumerate(CLASSES)}


def coco_fields(item: Instance) -> dict[str, object]:
    return {"category_id": item.category, "segmentation": dict(item.rle), "area": item.area, "bbox": list(item.bbox)}


@settings(max_examples=150)
@given(seed=st.integers(0, 2**32 - 1), max_detections=st.sampled_from([1, 2, 5, 100]))
def test_equals_pycocotools(seed: int, max_detections: int) -> None:
    truth, predictions = random_split(seed)
    found = instance_ap(truth, predictions, CLASSES, max_detections)
    overall, per_class = oracle(truth, predictions, max_detections)
    assert [found.mask_ap, found.mask_ap50, found.mask_ap75] == pytest.approx(overall, abs=1e-10)
    assert found.per_class == {
        name: None if value is None else pytest.approx(value, abs=1e-10) for name, value in per_class.items()
    }
    assert found.images == len(truth)


def one_image(*instances: Instance) -> Truth:
    return {"a": LabeledImage("a", SIDE, SIDE, list(instances))}


def test_perfect_predictions_score_100_points_and_absent_classes_do_not_count() -> None:
    item = rectangle(1, 4, 4, 20, 20)
    found = instance_ap(one_image(item), {"a": [replace(item, score=0.4)]}, CLASSES)
    assert found == InstanceAP(
        mask_ap=pytest.approx(100.0),
        mask_ap50=pytest.approx(100.0),
        mask_ap75=pytest.approx(100.0),
        per_class={"disc": None, "box": pytest.approx(100.0), "star": None, "never": None},
        evaluator=evaluator_name(),
        images=1,
    )


def test_a_mask_of_iou_six_tenths_counts_at_three_of_ten_thresholds() -> None:
    truth = one_image(rectangle(0, 0, 0, 40, 40))
    found = instance_ap(truth, {"a": [rectangle(0, 0, 0, 40, 24, score=0.9)]}, CLASSES)
    assert (found.mask_ap, found.mask_ap50, found.mask_ap75) == pytest.approx((30.0, 100.0, 0.0))


def test_without_predictions_classes_that_occur_have_0() -> None:
    crowd = rectangle(2, 30, 30, 8, 8, is_crowd=True)
    found = instance_ap(one_image(rectangle(0, 0, 0, 9, 9), crowd), {}, CLASSES)
    assert (found.mask_ap, found.mask_ap50, found.mask_ap75) == (0.0, 0.0, 0.0)
    assert found.per_class == {"disc": 0.0, "box": None, "star": None, "never": None}


@pytest.mark.parametrize("truth", [one_image(), one_image(rectangle(0, 0, 0, 9, 9, is_crowd=True))])
def test_nothing_annotated_is_0_overall_and_none_by_class(truth: Truth) -> None:
    found = instance_ap(truth, {"a": [rectangle(0, 0, 0, 9, 9, score=0.5)]}, CLASSES)
    assert found.mask_ap == 0.0
    assert set(found.per_class.values()) == {None}


def test_predictions_inside_a_crowd_are_not_counted_as_wrong() -> None:
    wanted, crowd = rectangle(0, 0, 0, 16, 16), rectangle(0, 20, 20, 28, 28, is_crowd=True)
    inside = [rectangle(0, 22 + 6 * number, 22, 5, 5, score=0.9) for number in range(3)]
    found = instance_ap(one_image(wanted, crowd), {"a": [*inside, replace(wanted, score=0.5)]}, CLASSES)
    assert found.mask_ap == pytest.approx(100.0)


def test_only_the_best_detections_of_an_image_and_class_are_kept() -> None:
    wanted = rectangle(0, 0, 0, 16, 16)
    predictions = {"a": [rectangle(0, 30, 30, 8, 8, score=0.9), replace(wanted, score=0.5)]}
    assert instance_ap(one_image(wanted), predictions, CLASSES, max_detections=1).mask_ap == 0.0
    assert instance_ap(one_image(wanted), predictions, CLASSES, max_detections=2).mask_ap > 0.0


def test_a_prediction_for_an_unknown_image_is_refused() -> None:
    with pytest.raises(DataError, match="prediction for image 'b'"):
        instance_ap(one_image(rectangle(0, 0, 0, 9, 9)), {"b": []}, CLASSES)


def test_names_the_evaluator_and_its_version() -> None:
    assert evaluator_name().startswith("hotcoco 1.")
