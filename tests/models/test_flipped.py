"""Two views of an image: what both show, and what one alone does."""

from __future__ import annotations

import numpy as np
import pytest

from sskd_core.data.masks import decode_mask, encode_mask, mask_area, mask_bbox
from sskd_core.data.records import Instance
from sskd_core.models.flipped import Flipped

HEIGHT, WIDTH = 8, 12


def box(left: int, right: int) -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), np.bool_)
    mask[2:6, left:right] = True
    return mask


def instance(mask: np.ndarray, category: int, score: float) -> Instance:
    rle = encode_mask(mask)
    return Instance(category, rle, score=score, bbox=mask_bbox(rle), area=float(mask_area(rle)))


class Scripted:
    """Answers with what it was told, whatever it sees, and remembers that."""

    def __init__(self, plain: list[Instance], turned: list[Instance]) -> None:
        self.classes = ["disc", "box"]
        self.answers, self.seen = [plain, turned], []

    def predict(self, images):
        self.seen += images
        return self.answers


def test_pairs_are_averaged_and_the_rest_has_half_its_score():
    plain = [instance(box(0, 4), 0, 0.8), instance(box(8, 12), 1, 0.6)]
    # Seen in the mirror: the first object at the right end, one of its own in the middle.
    turned = [instance(box(8, 12), 0, 0.9), instance(box(5, 7), 0, 0.5)]
    teacher = Scripted(plain, turned)
    image = np.arange(HEIGHT * WIDTH * 3, dtype=np.uint8).reshape(HEIGHT, WIDTH, 3)
    (found,) = Flipped(teacher).predict([image])
    assert np.array_equal(teacher.seen[1], image[:, ::-1])
    assert [(item.category, item.score) for item in found] == [
        (0, pytest.approx(0.85)),
        (1, pytest.approx(0.3)),
        (0, pytest.approx(0.25)),
    ]
    assert np.array_equal(decode_mask(found[0].rle), box(0, 4))
    assert found[0].bbox == (0.0, 2.0, 4.0, 4.0)
    assert np.array_equal(decode_mask(found[2].rle), box(5, 7))


def test_objects_of_two_classes_or_apart_are_no_pair():
    other_class = Flipped(Scripted([instance(box(0, 4), 0, 0.8)], [instance(box(8, 12), 1, 0.8)]))
    apart = Flipped(Scripted([instance(box(0, 4), 0, 0.8)], [instance(box(5, 9), 0, 0.8)]))
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    assert [item.score for item in other_class.predict([image])[0]] == [0.4, 0.4]
    assert [item.score for item in apart.predict([image])[0]] == [0.4, 0.4]


def test_an_image_without_an_object_has_none():
    assert Flipped(Scripted([], [])).predict([np.zeros((HEIGHT, WIDTH, 3), np.uint8)]) == [[]]
