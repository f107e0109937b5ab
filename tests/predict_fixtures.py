"""Pictures for `predict`: black with some bright columns at the left."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np
from PIL import Image

SHAPE = (32, 64)


def bright_columns(columns: int) -> np.ndarray:
    """Return an RGB image whose first columns are white."""
    pixels = np.zeros((*SHAPE, 3), dtype=np.uint8)
    pixels[:, :columns] = 255
    return pixels


def put(path: Path, columns: int) -> Path:
    """Write such an image."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(bright_columns(columns)).save(path)
    return path


def put_video(path: Path, columns: Sequence[int]) -> Path:
    """Write a video with one such image a frame."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=5)
        stream.height, stream.width = SHAPE
        stream.pix_fmt = "yuv420p"
        for count in columns:
            frame = av.VideoFrame.from_ndarray(bright_columns(count), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path
