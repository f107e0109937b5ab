"""Drawing of instances over their image: translucent masks, contours, class names and scores.

A class has the same colour in every picture. Used by the contact sheet of the pseudo-labels, the overlays of
the evaluation and `predict`; numpy and pillow only.
"""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from sskd_core.data.masks import decode_mask
from sskd_core.data.records import Instance

_GOLDEN_RATIO = 0.618033988749895
_FILL = 0.45


def draw_instances(
    image: NDArray[np.uint8],
    instances: Sequence[Instance],
    classes: Sequence[str],
    *,
    scale: int = 1,
    scores: bool = True,
) -> NDArray[np.uint8]:
    """Draw instances over an image.

    Args:
        image: RGB, [height, width, 3].
        instances: with masks at the size of the image; drawn in reverse order, so the first one is on top.
        classes: class names in index order.
        scale: whole factor by which the picture is enlarged first, so that text fits on small images.
        scores: whether the score follows the class name.

    Returns:
        A new RGB picture, [height * scale, width * scale, 3].
    """
    picture = np.repeat(np.repeat(image, scale, axis=0), scale, axis=1)
    for item in reversed(instances):
        mask = np.repeat(np.repeat(decode_mask(item.rle), scale, axis=0), scale, axis=1)
        color = np.array(class_color(item.category), dtype=np.float32)
        picture[mask] = (picture[mask] * (1 - _FILL) + color * _FILL).astype(np.uint8)
        picture[contour(mask)] = color
    canvas = Image.fromarray(picture)
    pen = ImageDraw.Draw(canvas)
    font = ImageFont.load_default(size=max(9, min(canvas.size) // 32))
    for item in reversed(instances):
        name = classes[item.category] + (" (crowd)" if item.is_crowd else "")
        text = f"{name} {item.score:.2f}" if scores else name
        _write_label(
            pen, canvas.size, text, (item.bbox[0] * scale, item.bbox[1] * scale), item.category, font
        )
    return np.asarray(canvas)


def class_color(category: int) -> tuple[int, int, int]:
    """Return the colour of a class; steps of the golden ratio keep the hues of neighbours apart."""
    red, green, blue = colorsys.hsv_to_rgb((0.02 + category * _GOLDEN_RATIO) % 1.0, 0.85, 1.0)
    return round(red * 255), round(green * 255), round(blue * 255)


def contour(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the pixels of `mask` with a neighbour outside of it; the image's border counts as outside."""
    padded = np.pad(mask, 1)
    inside = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return mask & ~inside


def _write_label(
    pen: ImageDraw.ImageDraw,
    size: tuple[int, int],
    text: str,
    corner: tuple[float, float],
    category: int,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
) -> None:
    left, top, right, bottom = pen.textbbox((0, 0), text, font=font)
    width, height = right - left + 4, bottom - top + 4
    x = max(0.0, min(corner[0], size[0] - width))
    y = max(0.0, min(corner[1], size[1] - height))
    pen.rectangle((x, y, x + width - 1, y + height - 1), fill=class_color(category))
    red, green, blue = class_color(category)
    bright = 0.299 * red + 0.587 * green + 0.114 * blue > 140
    pen.text((x + 2 - left, y + 2 - top), text, fill=(0, 0, 0) if bright else (255, 255, 255), font=font)
