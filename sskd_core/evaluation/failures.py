"""The images on which a model does worst, to look at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sskd_core.evaluation.matches import ClassMatches, SplitMatches

_AT_IOU_50 = 1


@dataclass(frozen=True)
class ImageScore:
    """How well one image was predicted, at IoU 0.5.

    Attributes:
        image_id: of the image.
        f1: 2 TP / (2 TP + FP + FN), 1 where there is nothing to find and nothing was found.
        missed: objects that were not found.
        wrong: predictions that match no object.
    """

    image_id: str
    f1: float
    missed: int
    wrong: int


def worst_images(matches: SplitMatches, score: float, wanted: int) -> list[ImageScore]:
    """Return the images with the lowest F1, the worst first; of equal ones those with more mistakes.

    Args:
        matches: of a split.
        score: detections below do not count.
        wanted: at most so many; images without a mistake are left out.
    """
    scored = [score_image(image_id, classes, score) for image_id, classes in matches.items()]
    bad = [item for item in scored if item.missed or item.wrong]
    return sorted(bad, key=lambda item: (item.f1, -item.missed - item.wrong, item.image_id))[:wanted]


def score_image(image_id: str, classes: Sequence[ClassMatches], score: float) -> ImageScore:
    """Count the detections of an image that score at least `score`; those that COCO ignores count as neither."""
    right = wrong = 0
    for item in classes:
        for value, matched, ignored in zip(item.scores, item.matched, item.ignored, strict=True):
            if value >= score and not ignored & _AT_IOU_50:
                right += matched & _AT_IOU_50
                wrong += not matched & _AT_IOU_50
    missed = sum(item.truths for item in classes) - right
    total = 2 * right + wrong + missed
    return ImageScore(image_id, 2 * right / total if total else 1.0, missed, wrong)
