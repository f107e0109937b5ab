"""Pictures as data URIs."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from sskd_core.errors import IntegrityError
from sskd_core.reporting.pictures import data_uri
from sskd_core.storage.digest import digest_bytes
from sskd_core.storage.manifest import ObjectRef


def _uri(data):
    ref = ObjectRef(name="sheet", uri="s3://bucket/sheet.png", digest=digest_bytes(data), bytes=len(data))
    return data_uri(ref, lambda asked: data if asked is ref else b"")


def _png(pixels):
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def test_the_picture_survives():
    ramp = np.linspace(0, 255, 60, dtype=np.uint8)
    pixels = np.stack([np.tile(ramp, (40, 1)), np.full((40, 60), 200, np.uint8), np.full((40, 60), 30, np.uint8)], 2)
    head, _, data = _uri(_png(pixels)).partition(",")
    assert head == "data:image/jpeg;base64"
    shown = np.array(Image.open(io.BytesIO(base64.b64decode(data))))
    assert shown.shape == pixels.shape
    assert np.abs(shown.astype(int) - pixels).max() <= 12


def test_thin_coloured_lines_keep_their_colour():
    pixels = np.full((32, 32, 3), 128, np.uint8)
    pixels[:, 15] = (255, 20, 20)
    shown = np.array(Image.open(io.BytesIO(base64.b64decode(_uri(_png(pixels)).partition(",")[2]))))
    assert shown[:, 15, 0].min() > 225
    assert shown[:, 15, 1].max() < 60


def test_equal_pictures_give_equal_bytes():
    data = _png(np.zeros((5, 7, 3), np.uint8))
    assert _uri(data) == _uri(data)


@pytest.mark.parametrize("data", [b"", b"no picture", _png(np.zeros((50, 50, 3), np.uint8))[:-30]])
def test_what_is_no_picture_is_one_line(data):
    with pytest.raises(IntegrityError, match=r"^s3://bucket/sheet\.png: not a picture"):
        _uri(data)
