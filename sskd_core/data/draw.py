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
    size: tuple[int, int] | None = None,
    scores: bool = True,
) -> NDArray[np.uint8]:
    """Draw instances over an image.

    Args:
        image: RGB, [height, width, 3].
        instances: with masks at the size of the image; drawn in reverse order, so the first one is on top.
        classes: class names in index order.
        size: height and width of the picture; the image is resized before lines and text are drawn, so that
            they stay legible on small and on large images. Default: the size of the image.
        scores: whether the score follows the class name.

    Returns:
        A new RGB picture.
    """
    height, width = size or image.shape[:2]
    resized = Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC)
    picture = np.array(resized)
    rows = np.arange(height) * image.shape[0] // height
    columns = np.arange(width) * image.shape[1] // width
    for item in reversed(instances):
        mask = decode_mask(item.rle)[rows[:, None], columns]
        color = np.array(class_color(item.category), dtype=np.float32)
        picture[mask] = (picture[mask] * (1 - _FILL) + color * _FILL).astype(np.uint8)
        picture[contour(mask)] = color
    canvas = Image.fromarray(picture)
    for item in reversed(instances):
        name = classes[item.category] + (" (crowd)" if item.is_crowd else "")
        text = f"{name} {item.score:.2f}" if scores else name
        corner = (item.bbox[0] * width / image.shape[1], item.bbox[1] * height / image.shape[0])
        _write_label(canvas, text, corner, class_color(item.category))
    return np.array(canvas)


def fit_within(height: int, width: int, max_height: int, max_width: int) -> tuple[int, int]:
    """Return the largest size of the same aspect ratio that fits the bounds, as (height, width) in pixels."""
    scale = min(max_height / height, max_width / width)
    return max(1, round(height * scale)), max(1, round(width * scale))


def class_color(category: int) -> tuple[int, int, int]:
    """Return the colour of a class; steps of the golden ratio keep the hues of neighbours apart."""
    red, green, blue = colorsys.hsv_to_rgb((0.02 + category * _GOLDEN_RATIO) % 1.0, 0.85, 1.0)
    return round(red * 255), round(green * 255), round(blue * 255)


def contour(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the pixels of `mask` with a neighbour outside of it; the image's border counts as outside."""
    padded = np.pad(mask, 1)
    inside = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return mask & ~inside


def _write_label(canvas: Image.Image, text: str, corner: tuple[float, float], color: tuple[int, int, int]) -> None:
    pen = ImageDraw.Draw(canvas)
    font = ImageFont.load_default(size=max(9, min(canvas.size) // 32))
    left, top, right, bottom = pen.textbbox((0, 0), text, font=font)
    width, height = right - left + 4, bottom - top + 4
    x = max(0.0, min(corner[0], canvas.width - width))
    y = max(0.0, min(corner[1], canvas.height - height))
    pen.rectangle((x, y, x + width - 1, y + height - 1), fill=color)
    luminance = 0.299 * color[0] + 0.587 * color[1] + 0.114 * color[2]
    ink = (0, 0, 0) if luminance > 140 else (255, 255, 255)
    pen.text((x + 2 - left, y + 2 - top), text, fill=ink, font=font)
