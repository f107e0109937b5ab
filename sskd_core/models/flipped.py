"""A teacher that looks at every image twice, the second time mirrored: test-time augmentation for stored labels.

Data Distillation (Radosavovic et al. 2018) averages predictions over transforms of an image. Instances have no pixel to
average at, so those of the two views are paired by class and overlap.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from sskd_core.data.masks import decode_mask, encode_mask, mask_bbox, mask_iou
from sskd_core.data.records import Instance
from sskd_core.models.protocol import Image, Teacher

_SAME_OBJECT = 0.5


class Flipped:
    """Averages a teacher's scores over an image and its mirror image.

    A pair of the same class whose masks overlap by more than half is one object with the mean of both scores and the
    better one's mask; what one view alone shows has half its score.

    Args:
        teacher: predicts each view.
    """

    def __init__(self, teacher: Teacher) -> None:
        self._teacher = teacher
        self.classes = teacher.classes

    def predict(self, images: list[Image]) -> list[list[Instance]]:
        """Return the instances of each image, best score first, masks at the image's own size."""
        mirrored = [np.ascontiguousarray(image[:, ::-1]) for image in images]
        found = self._teacher.predict([*images, *mirrored])
        views = zip(found[: len(images)], found[len(images) :], strict=True)
        return [_averaged(plain, [_mirrored(item) for item in turned]) for plain, turned in views]


def _mirrored(item: Instance) -> Instance:
    rle = encode_mask(decode_mask(item.rle)[:, ::-1])
    return dataclasses.replace(item, rle=rle, bbox=mask_bbox(rle))


def _averaged(plain: list[Instance], turned: list[Instance]) -> list[Instance]:
    overlap = mask_iou([item.rle for item in plain], [item.rle for item in turned])
    left = set(range(len(turned)))
    merged = []
    for row, item in enumerate(plain):
        partners = [
            column
            for column in left
            if turned[column].category == item.category and overlap[row, column] > _SAME_OBJECT
        ]
        partner = max(partners, key=lambda column: overlap[row, column], default=None)
        if partner is None:
            merged.append(_scored(item, item.score / 2))
        else:
            left.remove(partner)
            other = turned[partner]
            merged.append(_scored(max(item, other, key=lambda one: one.score), (item.score + other.score) / 2))
    merged += [_scored(turned[column], turned[column].score / 2) for column in sorted(left)]
    return sorted(merged, key=lambda item: -item.score)


def _scored(item: Instance, score: float) -> Instance:
    return dataclasses.replace(item, score=score)
