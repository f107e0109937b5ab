"""Videos frame by frame, with PyAV where it is installed (`pip install 'sskd[video]'`)."""

from __future__ import annotations

import io
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from sskd_core.errors import DataError

VIDEO_SUFFIXES = frozenset({".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi"})
"""Names by which a video in a folder is known, in lower case."""


def read_frames(data: bytes, where: str, step: int) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Yield number and pixels, RGB [height, width, 3], of every `step`-th frame; one is in memory at a time.

    Args:
        data: the bytes of the file.
        where: its name, for the message.
        step: 1 for all frames.

    Raises:
        DataError: PyAV is not installed, or the file holds no video that it can read.
    """
    try:
        import av
    except ImportError:
        raise DataError(
            f"{where}: reading a video needs PyAV; pip install 'sskd[video]', or give its frames as images"
        ) from None
    try:
        with av.open(io.BytesIO(data), "r") as container:
            if not container.streams.video:
                raise DataError(f"{where}: holds no video stream; replace or remove it")
            for number, frame in enumerate(container.decode(video=0)):
                if number % step == 0:
                    yield number, np.rot90(frame.to_ndarray(format="rgb24"), frame.rotation // 90)
    except av.FFmpegError as error:
        raise DataError(f"{where}: no video, or a damaged one ({error.strerror}); replace or remove it") from None
