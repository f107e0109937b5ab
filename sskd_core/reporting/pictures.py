"""Pictures as data URIs, small enough that a page holds a dozen of them."""

from __future__ import annotations

import base64
import io

from PIL import Image, UnidentifiedImageError

from sskd_core.errors import IntegrityError
from sskd_core.reporting.results import Read
from sskd_core.storage.manifest import ObjectRef

_QUALITY = 85


def data_uri(ref: ObjectRef, read: Read) -> str:
    """Return a stored picture as a data URI.

    It becomes a JPEG, a tenth of the PNG's size; without colour subsampling, which would smear the thin coloured
    contours.

    Raises:
        IntegrityError: it is not a picture.
    """
    try:
        with Image.open(io.BytesIO(read(ref))) as opened:
            picture = opened.convert("RGB")
    except (UnidentifiedImageError, OSError) as error:
        raise IntegrityError(f"{ref.uri}: not a picture: {error}") from None
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=_QUALITY, subsampling=0, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(stream.getvalue()).decode()}"
