"""From images to instances, against the processors and models of `transformers` run by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from engine_fixtures import CLASSES
from grounding_fixtures import SIZE, tiny_teacher, tokenizer
from transformers import (
    GroundingDinoImageProcessor,
    GroundingDinoProcessor,
    MMGroundingDinoForObjectDetection,
    Sam2ImageProcessor,
    Sam2Model,
    Sam2Processor,
)

from sskd_core.data.masks import decode_mask
from sskd_core.models.grounded_predict import GroundedPredictor, full_size_masks, without_overlaps
from sskd_core.models.predict import make_predictor
from sskd_core.models.protocol import Teacher

LEAST = 0.55
"""A threshold that some of the tiny detector's boxes pass and others do not."""


def image(height: int = SIZE.height, width: int = SIZE.width, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (height, width, 3)).astype(np.uint8)


def predictor(parts, classes=None, score_threshold=0.0, max_instances=100, **grounding) -> GroundedPredictor:
    settings = {"score_threshold": LEAST, "overlaps": "keep", "span_score": "max", **grounding}
    return GroundedPredictor(tiny_teacher(*parts, classes, **settings), score_threshold, max_instances)


@torch.no_grad()
def by_hand(parts: tuple[Path, Path], picture: np.ndarray, threshold: float) -> list[tuple]:
    """Return class name, detection score, predicted IoU and mask of each box as `transformers` documents it."""
    detector = MMGroundingDinoForObjectDetection.from_pretrained(parts[0]).eval()
    sizes = {"shortest_edge": SIZE.height, "longest_edge": SIZE.width}
    padded = {"height": SIZE.height, "width": SIZE.width}
    processor = GroundingDinoProcessor(GroundingDinoImageProcessor(size=sizes, pad_size=padded), tokenizer())
    inputs = processor(images=picture, text=[CLASSES], return_tensors="pt")
    output = detector(**inputs)
    # A trained detector says nothing at delimiters; one with random values does.
    output.logits[:, :, [0, 2, 4, 6, 7]] = -torch.inf
    found = processor.post_process_grounded_object_detection(
        output, threshold=threshold, text_threshold=threshold, target_sizes=[picture.shape[:2]]
    )[0]
    limits = torch.tensor([picture.shape[1], picture.shape[0]] * 2)
    boxes = found["boxes"].clamp(min=torch.zeros(4), max=limits)
    segmenter = Sam2Model.from_pretrained(parts[1]).eval()
    square = {"height": 64, "width": 64}
    sam = Sam2Processor(Sam2ImageProcessor(size=square, mask_size={"height": 16, "width": 16}), target_size=64)
    prompts = sam(images=picture, input_boxes=[boxes.tolist()], return_tensors="pt")
    output = segmenter(**{name: prompts[name] for name in ("pixel_values", "input_boxes")}, multimask_output=False)
    masks = sam.post_process_masks(output.pred_masks, prompts["original_sizes"])[0][:, 0].numpy()
    rows = zip(found["text_labels"], found["scores"].tolist(), output.iou_scores[0, :, 0].tolist(), masks, strict=True)
    return sorted(rows, key=lambda row: -row[1])


@pytest.mark.parametrize("shape", [(64, 96), (64, 64), (48, 96)], ids=["as the input", "padded right", "padded below"])
def test_the_pipeline_of_transformers_finds_the_same(teacher_parts, shape):
    picture = image(*shape)
    expected = by_hand(teacher_parts, picture, LEAST)
    found = predictor(teacher_parts).predict_raw([picture])[0]
    assert len(found) == len(expected) >= 3
    for ours, (label, score, quality, mask) in zip(found, expected, strict=True):
        assert CLASSES[ours.category] in label.split()
        assert ours.class_score == pytest.approx(score, abs=1e-4)
        assert ours.mask_score == pytest.approx(quality, abs=1e-3)
        assert (ours.mask != mask).mean() < 0.002


@pytest.mark.parametrize("score", ["detection", "predicted_iou"])
def test_the_score_is_the_one_that_is_asked_for(teacher_parts, score):
    found = predictor(teacher_parts, score=score).predict_raw([image()])[0]
    values = [item.class_score if score == "detection" else item.mask_score for item in found]
    assert [item.score for item in found] == values == sorted(values, reverse=True)
    assert len(set(values)) > 3


def test_thresholds_are_per_class_and_strict(teacher_parts):
    found = predictor(teacher_parts, score_threshold=0.0).predict_raw([image(seed=1)])[0]
    lowest = min(item.class_score for item in found)
    of_class = CLASSES[found[0].category]
    own = [item.class_score for item in found if CLASSES[item.category] == of_class]
    again = predictor(teacher_parts, class_thresholds={of_class: own[0]}).predict_raw([image(seed=1)])[0]
    assert lowest > LEAST
    assert len(again) == len(found) - len(own)  # the best one lies at its threshold and not above


def test_no_more_boxes_than_asked_for_and_the_best_of_them(teacher_parts):
    every = predictor(teacher_parts).predict_raw([image()])[0]
    for few in (predictor(teacher_parts, max_boxes=2), predictor(teacher_parts, max_instances=2)):
        found = few.predict_raw([image()])[0]
        assert [item.score for item in found] == [item.score for item in every[:2]]


def test_what_scores_too_low_is_dropped(teacher_parts):
    every = predictor(teacher_parts).predict_raw([image()])[0]
    found = predictor(teacher_parts, score_threshold=every[2].score).predict_raw([image()])[0]
    assert len(found) == 3


def test_an_image_without_a_box_has_no_instance(teacher_parts):
    assert predictor(teacher_parts, class_thresholds=dict.fromkeys(CLASSES, 1.0)).predict([image(), image()]) == [
        [],
        [],
    ]


def test_neighbours_in_a_batch_do_not_change_a_prediction(teacher_parts):
    teacher = predictor(teacher_parts)
    images = [image(20, 70), image(64, 30, seed=1), image(seed=2)]
    together = teacher.predict_raw(images)
    for index, item in enumerate(images):
        alone = teacher.predict_raw([item])[0]
        assert len(alone) == len(together[index]) > 0
        for one, other in zip(alone, together[index], strict=True):
            assert one.mask.shape == item.shape[:2]
            assert one.score == pytest.approx(other.score, abs=1e-4)
            assert (one.mask != other.mask).mean() < 0.01


def test_each_image_goes_through_each_encoder_once(teacher_parts):
    """However many prompts and boxes there are."""
    teacher = predictor(teacher_parts, [*CLASSES, *"abcdefghij"])
    assert len(teacher.model.prompts) > 1
    seen: dict[str, list[int]] = {"detector": [], "segmenter": []}
    networks = {
        "detector": teacher.model.detector.model.backbone.conv_encoder.model,
        "segmenter": teacher.model.segmenter.vision_encoder.backbone,
    }
    for name, network in networks.items():
        network.register_forward_pre_hook(lambda _, inputs, name=name: seen[name].append(len(inputs[0])))
    found = teacher.predict([image(), image(seed=1), image(seed=2)])
    assert sum(map(len, found)) > 3
    assert seen == {"detector": [3], "segmenter": [3]}


def test_split_prompts_find_what_each_finds_alone(teacher_parts):
    """A teacher with several prompts finds what teachers find that ask one of them each."""
    classes = [*CLASSES, *"abcdefghij"]
    together = predictor(teacher_parts, classes)
    parts = [[classes[span.category] for span in prompt.spans] for prompt in together.model.prompts]
    assert len(parts) > 1
    assert [label for part in parts for label in part] == classes
    expected = []
    for part in parts:
        for item in predictor(teacher_parts, part).predict_raw([image()])[0]:
            expected.append((part[item.category], item.score, int(item.mask.sum())))
    found = [(classes[item.category], item.score, int(item.mask.sum())) for item in together.predict_raw([image()])[0]]
    assert [item[::2] for item in found] == [item[::2] for item in sorted(expected, key=lambda item: -item[1])]


def test_overlaps_go_to_the_first_detected_or_the_best(teacher_parts):
    kept = predictor(teacher_parts, score="predicted_iou").predict_raw([image()])[0]
    assert np.sum([item.mask for item in kept], axis=0).max() > 1
    for overlaps in ("detection_order", "score"):
        key = (lambda item: -item.class_score) if overlaps == "detection_order" else (lambda item: -item.score)
        taken, expected = np.zeros((64, 96), dtype=np.bool_), {}
        for item in sorted(kept, key=key):
            if (item.mask & ~taken).any():
                expected[item.class_score] = item.mask & ~taken
            taken |= item.mask
        found = predictor(teacher_parts, score="predicted_iou", overlaps=overlaps).predict_raw([image()])[0]
        assert len(found) == len(expected) < len(kept)  # who lost everything is gone
        assert all((item.mask == expected[item.class_score]).all() for item in found)


def test_earlier_masks_keep_their_pixels():
    masks = np.array([[[1, 1, 0, 0]], [[0, 1, 1, 0]], [[1, 1, 1, 0]]], dtype=np.bool_)
    assert without_overlaps(masks, range(3)).astype(int).tolist() == [[[1, 1, 0, 0]], [[0, 0, 1, 0]], [[0, 0, 0, 0]]]
    assert without_overlaps(masks, [2, 1, 0]).astype(int).tolist() == [[[0, 0, 0, 0]], [[0, 0, 0, 0]], [[1, 1, 1, 0]]]


def test_masks_are_cut_at_their_probability():
    logits = torch.tensor([0.3, 0.5, 0.8]).logit()[None, None]
    assert full_size_masks(logits, (1, 3), 0.49).astype(int).tolist() == [[[0, 1, 1]]]
    assert full_size_masks(logits, (1, 3), 0.7).astype(int).tolist() == [[[0, 0, 1]]]


def test_it_is_the_teacher_of_its_family(teacher_parts):
    teacher = make_predictor(tiny_teacher(*teacher_parts, score_threshold=LEAST))
    assert isinstance(teacher, GroundedPredictor)
    assert isinstance(teacher, Teacher)
    first = teacher.predict([image()])[0][0]
    assert decode_mask(first.rle).sum() == first.area
