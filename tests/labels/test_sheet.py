"""The contact sheet: which images it shows, and that it is a picture of them."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from sskd_core.data.masks import encode_mask
from sskd_core.data.records import Instance, LabeledImage
from sskd_core.labels import sheet
from sskd_core.labels.sheet import choose_images, contact_sheet, spread_indices

MASK = np.zeros((30, 40), dtype=bool)
MASK[5:25, 5:35] = True


def labels(count):
    """Make images whose mean score rises with their number; the first has none."""
    found = [[Instance(0, encode_mask(MASK), n / count, bbox=(5, 5, 30, 20))] if n else [] for n in range(count)]
    return [LabeledImage(f"{n:03d}.jpg", 40, 30, instances) for n, instances in enumerate(found)]


def open_png(data):
    assert data.startswith(b"\x89PNG")
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def test_the_choice_spans_the_scores_from_the_emptiest_to_the_surest():
    shuffled = [labels(100)[index] for index in np.random.default_rng(0).permutation(100)]
    chosen = [int(item.image_id[:3]) for item in choose_images(shuffled, wanted=12)]
    assert chosen == [0, 9, 18, 27, 36, 45, 54, 63, 72, 81, 90, 99]


def test_few_images_are_all_chosen():
    assert choose_images(labels(3)) == labels(3)
    assert choose_images([]) == []
    assert spread_indices(1, 24) == [0]


def test_the_sheet_is_a_grid_of_drawn_images():
    read = []

    def read_image(image_id):
        read.append(image_id)
        return np.full((30, 40, 3), 255, dtype=np.uint8)

    data = contact_sheet(labels(8), ["disc"], read_image)
    picture = open_png(data)
    step_x = sheet.TILE_WIDTH + sheet.MARGIN
    step_y = sheet.TILE_HEIGHT + sheet.CAPTION_HEIGHT + sheet.MARGIN
    assert picture.shape == (2 * step_y + sheet.MARGIN, 6 * step_x + sheet.MARGIN, 3)
    assert read == [item.image_id for item in labels(8)]
    centre = (sheet.MARGIN + sheet.TILE_HEIGHT // 2, sheet.MARGIN + sheet.TILE_WIDTH // 2)
    assert tuple(picture[centre]) == (255, 255, 255), "the first image has no mask"
    assert tuple(picture[centre[0], centre[1] + step_x]) != (255, 255, 255), "the second has one"
    assert data == contact_sheet(labels(8), ["disc"], read_image)


def test_large_images_are_reduced_to_their_tile():
    big = LabeledImage("folder/with a long name/and a long name.jpg", 4000, 1000)
    picture = open_png(contact_sheet([big], [], lambda _: np.full((1000, 4000, 3), 255, dtype=np.uint8)))
    assert picture.shape[1] == sheet.TILE_WIDTH + 2 * sheet.MARGIN
    assert (picture == 255).all(axis=2).sum() == sheet.TILE_WIDTH * sheet.TILE_WIDTH // 4
