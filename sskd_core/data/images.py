"""Image files to RGB pixels, exactly as a viewer shows them.

EXIF orientation is applied, palettes and transparency are resolved (transparent parts are white), 16-bit grey
and CMYK become 8-bit RGB, an animation is its first frame. What cannot be shown is a `DataError` of one line.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError

from sskd_core.errors import DataError, UserError

FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF")
"""What is read. A closed list: other decoders of Pillow start programs (EPS) or are rarely exercised."""
SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp", ".gif"})
"""Names by which an image in a folder is known, in lower case."""
MAX_PIXELS = 100_000_000

# Pillow's own limit holds for the whole process and refuses what `max_pixels` allows; `_opened` checks.
Image.MAX_IMAGE_PIXELS = None

_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True)
class ImageSize:
    """The size of an image file in pixels.

    Attributes:
        width: as a viewer shows it.
        height: as a viewer shows it.
        stored_width: of the pixel rows in the file, before the EXIF orientation turns them.
        stored_height: likewise.
    """

    width: int
    height: int
    stored_width: int
    stored_height: int


def decode_image(data: bytes, where: str, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """Decode an image file.

    Args:
        data: the bytes of the file.
        where: its name, for the message.
        max_pixels: larger images are refused before a pixel is decoded.

    Returns:
        RGB, [height, width, 3].

    Raises:
        DataError: empty, no image, truncated, corrupt, too large, or of a pixel type that has no common look.
    """
    with _opened(data, where, max_pixels) as image:
        image.load()
        return np.array(_turned(_to_rgb(image, where), _orientation(image)))


def probe_size(data: bytes, where: str, max_pixels: int = MAX_PIXELS) -> ImageSize:
    """Read the size of an image from its header; arguments and errors are those of `decode_image`."""
    with _opened(data, where, max_pixels) as image:
        width, height = image.size
        if not _sideways(image):
            return ImageSize(width, height, width, height)
        # Pillow has turned a TIFF's size already; that of other formats is still the stored one.
        if image.format == "TIFF":
            return ImageSize(width, height, height, width)
        return ImageSize(height, width, width, height)


@contextmanager
def _opened(data: bytes, where: str, max_pixels: int) -> Iterator[Image.Image]:
    """Open an image, and turn whatever its decoder raises inside the block into one line."""
    if not data:
        raise DataError(f"{where}: the image file is empty; replace or remove it")
    try:
        with Image.open(BytesIO(data), formats=FORMATS) as image:
            width, height = image.size
            if width * height > max_pixels:
                limit = f"data.max_pixels = {max_pixels}"
                raise DataError(f"{where}: {width} x {height} pixels exceed {limit}; scale it down or raise the limit")
            yield image
    except (UserError, MemoryError):
        raise
    except UnidentifiedImageError:
        raise DataError(f"{where}: not an image, or none of {', '.join(FORMATS)}; convert or remove it") from None
    except Exception as error:  # decoders raise OSError, SyntaxError, ValueError, struct.error ...
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{where}: truncated or corrupt image ({reason}); replace or remove it") from None


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 (upright) when there is none or the EXIF block is damaged."""
    try:
        value = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # a viewer shows an image whose metadata is damaged
        return 1
    return value if isinstance(value, int) else 1


def _sideways(image: Image.Image) -> bool:
    return _orientation(image) in (5, 6, 7, 8)


def _turned(image: Image.Image, orientation: int) -> Image.Image:
    return image.transpose(_TRANSPOSE[orientation]) if orientation in _TRANSPOSE else image


def _to_rgb(image: Image.Image, where: str) -> Image.Image:
    if image.mode.startswith("I;16"):
        # The high byte, as Pillow itself reads 16-bit colour.
        return Image.fromarray((np.asarray(image).astype(np.uint16) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        raise DataError(f"{where}: 32-bit pixels have no common look; convert the image to 8 or 16 bits")
    if not image.has_transparency_data:
        return image.convert("RGB")
    layer = image.convert("RGBA")
    canvas = Image.new("RGBA", layer.size, "white")
    canvas.alpha_composite(layer)
    return canvas.convert("RGB")
