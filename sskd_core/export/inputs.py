"""What a person asks to be predicted: images, folders, prefixes, patterns and videos, as one stream of pictures."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from sskd_core.data.images import SUFFIXES, decode_image
from sskd_core.errors import DataError
from sskd_core.export.video import VIDEO_SUFFIXES, read_frames
from sskd_core.storage.source import Source, SourceFile, open_source
from sskd_core.storage.store import ObjectStore
from sskd_core.storage.uri import SCHEME

_WILD = "*?["


@dataclass(frozen=True)
class InputFile:
    """One image or video.

    Attributes:
        file: which.
        source: reads it.
    """

    file: SourceFile
    source: Source

    @property
    def is_video(self) -> bool:
        """Whether it is read frame by frame."""
        return PurePosixPath(self.file.name).suffix.lower() in VIDEO_SUFFIXES


@dataclass(frozen=True)
class Picture:
    """One image, or one frame of a video.

    Attributes:
        location: path or URI of the file.
        frame: number of the frame, from 0; None for an image.
        stem: the file's name without its ending, with the number of the frame.
        pixels: RGB, [height, width, 3].
    """

    location: str
    frame: int | None
    stem: str
    pixels: NDArray[np.uint8]


def find_inputs(locations: Sequence[str], store: ObjectStore | None) -> list[InputFile]:
    """List the images and videos that are meant, each once, in the order given and sorted within a folder.

    Args:
        locations: files, folders, `s3://` objects and prefixes, and patterns of either with `*`, `?` and `[...]`. `**`
            in a local pattern stands for any folders; in an `s3://` pattern `*` does so, too.
        store: reads `s3://` locations.

    Raises:
        DataError: a location that is not there, or has no image and no video.
        StorageError: the store cannot be reached.
    """
    found: dict[str, InputFile] = {}
    for location in locations:
        files = list(_matching(location, store) if _is_pattern(location) else _inside(location, store))
        if not files:
            known = ", ".join(sorted(SUFFIXES | VIDEO_SUFFIXES))
            raise DataError(f"{location}: no images and no videos in it; known endings are {known}")
        found |= {item.file.location: item for item in files}
    return list(found.values())


def read_pictures(item: InputFile, frame_step: int = 1) -> Iterator[Picture]:
    """Yield the image, or the frames of the video one by one.

    Args:
        item: what to read.
        frame_step: of a video, every so many frames.

    Raises:
        DataError: it cannot be read.
    """
    where, stem, data = item.file.location, PurePosixPath(item.file.name).stem, item.source.read(item.file.name)
    if not item.is_video:
        yield Picture(where, None, stem, decode_image(data, where))
        return
    for number, pixels in read_frames(data, where, frame_step):
        yield Picture(where, number, f"{stem}-{number:06d}", pixels)


def _is_pattern(location: str) -> bool:
    return any(mark in location for mark in _WILD) and not Path(location).exists()


def _inside(location: str, store: ObjectStore | None) -> Iterator[InputFile]:
    """Yield the images and videos of a folder or prefix; a file that is named counts whatever its ending."""
    source = open_source(location, store)
    files = list(source.files(SUFFIXES | VIDEO_SUFFIXES))
    if not files and Path(location).is_file():
        files = list(source.files())
    yield from (InputFile(file, source) for file in files)


def _matching(pattern: str, store: ObjectStore | None) -> Iterator[InputFile]:
    steady = pattern[: min(pattern.index(mark) for mark in _WILD if mark in pattern)].rpartition("/")[0]
    if not pattern.startswith(SCHEME):
        folder = Path(steady or ("/" if pattern.startswith("/") else ".")).expanduser()
        for path in sorted(folder.glob(pattern[len(steady) :].lstrip("/"))):
            if path.is_file() and path.suffix.lower() in SUFFIXES | VIDEO_SUFFIXES:
                yield from _inside(str(path), store)
        return
    source = open_source(f"{steady}/", store)
    for file in source.files(SUFFIXES | VIDEO_SUFFIXES):
        if fnmatch.fnmatchcase(file.location, pattern):
            yield InputFile(file, source)
