"""detectron2's evaluator beside ours, with the real library where it is installed."""

from __future__ import annotations

from importlib.util import find_spec

import pytest
from engine_fixtures import CLASSES, Rectangles

from sskd_core.data.records import Instance
from sskd_core.errors import ConfigError
from sskd_core.evaluation.detectron2_ap import detectron2_mask_ap
from sskd_core.evaluation.instance_ap import instance_ap

INSTALLED = find_spec("detectron2") is not None
needs_detectron2 = pytest.mark.skipif(not INSTALLED, reason="detectron2 is not installed")


def predictions() -> dict[str, list[Instance]]:
    """Return the truth of another image for some, and falling scores."""
    truth = Rectangles(count=9).truth()
    found = {}
    for number, image_id in enumerate(truth):
        source = truth[image_id if number % 3 else str((number + 1) % 9)]
        found[image_id] = [
            Instance(item.category, item.rle, bbox=item.bbox, area=item.area, score=0.9 - 0.1 * place)
            for place, item in enumerate(source.instances)
        ]
    return found


@needs_detectron2
def test_both_say_the_same():
    truth = Rectangles(count=9).truth()
    ours = instance_ap(truth, predictions(), CLASSES).mask_ap
    theirs = detectron2_mask_ap(truth, predictions(), CLASSES)
    assert 5.0 < ours < 95.0
    assert theirs.mask_ap == pytest.approx(ours, abs=0.01)
    assert theirs.evaluator.startswith("detectron2 ")


@needs_detectron2
def test_nothing_found_is_zero():
    assert detectron2_mask_ap(Rectangles(count=4).truth(), {}, CLASSES).mask_ap == 0.0


@pytest.mark.skipif(INSTALLED, reason="detectron2 is installed")
def test_without_the_library_the_error_says_so():
    with pytest.raises(ConfigError, match="detectron2 is not installed here"):
        detectron2_mask_ap({}, {}, CLASSES)
