"""The annotated side of a data set: a COCO file joined with the images that it lists.

All problems of file and images are collected, so that a person mends a data set in one go.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

from sskd_core.config.data import LabeledSource
from sskd_core.data.coco import CocoFile, read_coco
from sskd_core.data.images import SUFFIXES, ImageSize
from sskd_core.data.ingest import ImageFile, ImageReader
from sskd_core.data.records import ImageRecord, LabeledImage
from sskd_core.errors import DataError
from sskd_core.storage.source import Source, SourceFile, open_source
from sskd_core.storage.store import ObjectStore


@dataclass(frozen=True)
class AnnotatedImage:
    """An image and its annotation."""

    record: ImageRecord
    labels: LabeledImage


@dataclass
class AnnotatedSource:
    """A COCO file and the listing of its image folder.

    Attributes:
        coco: what the file says.
        files: the images that it lists and that are there.
        unlisted: locations of the images in the folder that it does not list.
    """

    coco: CocoFile
    files: list[ImageFile] = field(default_factory=list)
    unlisted: set[str] = field(default_factory=set)

    @property
    def problems(self) -> list[str]:
        """What is wrong, one line each."""
        return self.coco.problems


def open_annotated(
    source: LabeledSource, key: str, store: ObjectStore, classes: Sequence[str] | None = None
) -> AnnotatedSource:
    """Read a COCO file and list its image folder; no image is read yet.

    Args:
        source: where both are.
        key: the configuration key that names them, for messages.
        store: reads `s3://` locations.
        classes: the known classes, see `read_coco`.

    Raises:
        StorageError: the store failed.
    """
    found = AnnotatedSource(CocoFile(source.annotations))
    try:
        found.coco = read_coco(
            read_only_file(source.annotations, f"{key}.annotations", store), source.annotations, classes
        )
    except DataError as error:
        found.problems.extend(error.problems)
    try:
        _join(found, open_source(source.images, store), f"{key}.images")
    except DataError as error:
        found.problems.append(f"{key}.images: {error}")
    return found


def read_only_file(location: str, key: str, store: ObjectStore) -> bytes:
    """Return the bytes of the one file at a location.

    Raises:
        DataError: there is none, or it is a folder.
    """
    try:
        source = open_source(location, store)
        files = list(islice(source.files(), 2))
        if not files:
            raise DataError(f"{location}: no such file")
        if len(files) > 1:
            raise DataError(f"{location}: a folder; name the JSON file in it")
        return source.read(files[0].name)
    except DataError as error:
        raise DataError(f"{key}: {error}") from None


def read_annotated(source: AnnotatedSource, reader: ImageReader, step: Callable[[], None]) -> Iterator[AnnotatedImage]:
    """Read the images of a source; those that are unsound are added to its problems.

    Args:
        source: as opened.
        reader: reads the images.
        step: called after each image.
    """
    for read in reader.read_all(source.files):
        step()
        if isinstance(read, DataError):
            source.problems.extend(read.problems)
            continue
        labels = source.coco.images[read.record.image_id]
        problem = _size_problem(labels, read.size)
        if problem is not None:
            source.problems.append(f"{source.coco.where}: image '{labels.image_id}' {problem}")
        yield AnnotatedImage(read.record, labels)


def _join(found: AnnotatedSource, source: Source, key: str) -> None:
    listing: dict[str, SourceFile] = {file.name: file for file in source.files()}
    for name in sorted(found.coco.images):
        if name in listing:
            found.files.append(ImageFile(name, source, listing[name]))
        else:
            found.problems.append(f"{found.coco.where}: image '{name}' is not in {key} = {source.location}")
    wanted = found.coco.images.keys()
    found.unlisted = {
        file.location
        for name, file in listing.items()
        if name not in wanted and name[name.rfind(".") :].lower() in SUFFIXES
    }


def _size_problem(labels: LabeledImage, size: ImageSize) -> str | None:
    """Compare the annotated size with the file's; the size as shown is the one that counts."""
    annotated = (labels.width, labels.height)
    if annotated == (size.width, size.height):
        return None
    claim = f"is annotated as {labels.width} x {labels.height}"
    if annotated == (size.stored_width, size.stored_height):
        return (
            f"{claim}, its size before the EXIF rotation; viewers show it as {size.width} x {size.height}: "
            "rotate the annotation, or rotate the pixels and drop the EXIF tag"
        )
    return f"{claim}, but the file has {size.width} x {size.height} pixels (width x height)"
