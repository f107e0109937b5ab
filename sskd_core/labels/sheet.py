"""The contact sheet: one picture by which a person judges the pseudo-labels of a stage.

It shows images over the whole range of scores, from the emptiest to the surest, out of a few shards spread
over the data set. The choice is a function of the labels alone, so the same labels give the same sheet.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from sskd_core.data.draw import draw_instances, fit_within
from sskd_core.data.records import LabeledImage

IMAGES = 24
COLUMNS = 6
TILE_WIDTH = 320
TILE_HEIGHT = 240
CAPTION_HEIGHT = 20
MARGIN = 6
_BACKGROUND = (24, 24, 27)
_INK = (228, 228, 231)


def spread_indices(count: int, wanted: int) -> list[int]:
    """Return at most `wanted` indices below `count`, evenly spread, the first and the last included."""
    return sorted({round(value) for value in np.linspace(0, count - 1, min(count, wanted))}) if count else []


def choose_images(labels: Sequence[LabeledImage], wanted: int = IMAGES) -> list[LabeledImage]:
    """Choose images over the range of mean scores, the emptiest first."""
    ordered = sorted(labels, key=lambda item: (mean_score(item), item.image_id))
    return [ordered[index] for index in spread_indices(len(ordered), wanted)]


def mean_score(image: LabeledImage) -> float:
    """Return the mean score of the instances, 0 without any."""
    return float(np.mean([item.score for item in image.instances])) if image.instances else 0.0


def contact_sheet(
    images: Sequence[LabeledImage],
    classes: Sequence[str],
    read_image: Callable[[str], NDArray[np.uint8]],
) -> bytes:
    """Draw images with their pseudo-labels on a grid.

    Args:
        images: in reading order.
        classes: class names in index order.
        read_image: image id -> RGB image [height, width, 3]; one image is in memory at a time.

    Returns:
        A PNG file.
    """
    columns = min(COLUMNS, max(1, len(images)))
    rows = max(1, -(-len(images) // columns))
    step_x, step_y = TILE_WIDTH + MARGIN, TILE_HEIGHT + CAPTION_HEIGHT + MARGIN
    sheet = Image.new("RGB", (columns * step_x + MARGIN, rows * step_y + MARGIN), _BACKGROUND)
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=12)
    for number, item in enumerate(images):
        x, y = MARGIN + number % columns * step_x, MARGIN + number // columns * step_y
        size = fit_within(item.height, item.width, TILE_HEIGHT, TILE_WIDTH)
        tile = draw_instances(read_image(item.image_id), item.instances, classes, size=size)
        sheet.paste(Image.fromarray(tile), (x + (TILE_WIDTH - size[1]) // 2, y + (TILE_HEIGHT - size[0]) // 2))
        pen.text((x, y + TILE_HEIGHT + 3), _caption(item), fill=_INK, font=font)
    stream = io.BytesIO()
    sheet.save(stream, "PNG", optimize=True)
    return stream.getvalue()


def _caption(image: LabeledImage) -> str:
    name = image.image_id if len(image.image_id) <= 28 else f"…{image.image_id[-27:]}"
    found = len(image.instances)
    return f"{name}  {found} at {mean_score(image):.2f}" if found else f"{name}  none"
