"""Drawing of instances: where the colour goes, and where it does not."""

from __future__ import annotations

import numpy as np
import pytest

from sskd_core.data.draw import class_color, contour, draw_instances, fit_within
from sskd_core.data.masks import encode_mask
from sskd_core.data.records import Instance

GREY = np.full((60, 80, 3), 128, dtype=np.uint8)


def instance(rows, columns, category=0, score=0.5):
    mask = np.zeros((60, 80), dtype=bool)
    mask[slice(*rows), slice(*columns)] = True
    box = (columns[0], rows[0], columns[1] - columns[0], rows[1] - rows[0])
    return Instance(category, encode_mask(mask), score, bbox=box)


def test_without_instances_the_picture_is_the_image():
    picture = draw_instances(GREY, [], [])
    assert (picture == GREY).all()
    assert picture is not GREY


def test_the_inside_is_tinted_the_contour_is_the_colour_and_the_rest_is_untouched():
    before = GREY.copy()
    picture = draw_instances(GREY, [instance((20, 55), (10, 70))], ["disc"])
    color = np.array(class_color(0))
    assert (picture[54, 10:70] == color).all()
    assert picture[50, 40].tolist() == (128 * 0.55 + color * 0.45).astype(np.uint8).tolist()
    assert (picture[56:] == 128).all()
    assert (picture[:, 75:] == 128).all()
    assert (before == GREY).all(), "the image itself must not change"


def test_the_first_instance_is_on_top():
    over, under = instance((20, 60), (0, 40), category=0), instance((20, 60), (20, 80), category=1)
    picture = draw_instances(GREY, [over, under], ["disc", "box"])
    assert picture[59, 30].tolist() == list(class_color(0))
    assert picture[59, 60].tolist() == list(class_color(1))


def test_the_picture_takes_the_size_asked_for():
    picture = draw_instances(GREY, [instance((30, 60), (40, 80))], ["disc"], size=(120, 160))
    assert picture.shape == (120, 160, 3)
    assert picture[119, 80].tolist() == list(class_color(0))
    assert picture[119, 79].tolist() == [128, 128, 128]


def test_scores_can_be_left_out_and_a_crowd_is_marked():
    item = instance((20, 50), (5, 75))
    with_score = draw_instances(GREY, [item], ["disc"])
    assert (with_score != draw_instances(GREY, [item], ["disc"], scores=False)).any()
    crowd = Instance(0, item.rle, bbox=item.bbox, is_crowd=True)
    assert (
        draw_instances(GREY, [crowd], ["disc"], scores=False) != draw_instances(GREY, [item], ["disc"], scores=False)
    ).any()


@pytest.mark.parametrize("corner", [(0, 0), (0, 78), (58, 0), (58, 78)])
def test_a_label_at_the_border_is_shown_whole(corner):
    def changed(row, column):
        item = instance((row, row + 1), (column, column + 1))
        return (draw_instances(GREY, [item], ["disc"]) != GREY).any(axis=2).sum()

    assert changed(*corner) >= changed(20, 5)


def test_the_contour_is_the_rim_of_the_mask():
    mask = np.zeros((5, 6), dtype=bool)
    mask[1:4, 1:5] = True
    rim = mask.copy()
    rim[2, 2:4] = False
    assert (contour(mask) == rim).all()


def test_colours_of_many_classes_differ():
    assert len({class_color(index) for index in range(40)}) == 40


def test_fitting_keeps_the_aspect_ratio():
    assert fit_within(60, 80, 240, 320) == (240, 320)
    assert fit_within(1000, 4000, 240, 320) == (80, 320)
    assert fit_within(10_000, 10, 100, 100) == (100, 1)
