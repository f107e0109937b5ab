"""Rows of pictures side by side: the same image as the truth and as each model sees it, under a caption strip."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from sskd_core.data.draw import draw_instances, fit_within
from sskd_core.data.records import Instance

_PANEL_HEIGHT, _PANEL_WIDTH = 320, 480
_CAPTION = 26
_GAP = 6
_PAPER, _INK = (255, 255, 255), (30, 34, 40)


def draw_row(
    image: NDArray[np.uint8], panels: Sequence[tuple[str, Sequence[Instance]]], classes: Sequence[str]
) -> bytes:
    """Draw one image several times, each with its own instances.

    Args:
        image: RGB, [height, width, 3].
        panels: caption and instances of each picture, from left to right.
        classes: class names in index order.

    Returns:
        A PNG.
    """
    height, width = fit_within(image.shape[0], image.shape[1], _PANEL_HEIGHT, _PANEL_WIDTH)
    total = len(panels) * width + (len(panels) - 1) * _GAP
    canvas = Image.new("RGB", (total, height + _CAPTION), _PAPER)
    pen = ImageDraw.Draw(canvas)
    font = ImageFont.load_default(size=15)
    for number, (caption, instances) in enumerate(panels):
        left = number * (width + _GAP)
        pen.text((left + 2, 4), caption, fill=_INK, font=font)
        scores = any(item.score < 1.0 for item in instances)
        picture = draw_instances(image, instances, classes, size=(height, width), scores=scores)
        canvas.paste(Image.fromarray(picture), (left, _CAPTION))
    buffer = io.BytesIO()
    canvas.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
