"""Which images of some places are new: by content, so that a renamed or copied file is not.

Every file with the name of an image is read once. What cannot be read is listed and skipped; only when it is a large
share of a source, something is wrong with the source itself.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

from sskd_core.config.reference import InputRef
from sskd_core.config.retrain import RetrainConfig
from sskd_core.data.images import SUFFIXES
from sskd_core.data.index import encode_index
from sskd_core.data.ingest import ImageFile, ImageReader
from sskd_core.data.records import ImageRecord
from sskd_core.data.table import TableFormat
from sskd_core.errors import DataError
from sskd_core.storage.digest import digest_bytes
from sskd_core.storage.source import Source, SourceFile, open_source
from sskd_core.storage.store import ObjectStore

_MEGA = 1e6


@dataclass
class Scan:
    """What some places hold.

    Attributes:
        new: images that are nowhere in the known data, one a content.
        known: files whose content is known.
        copies: files whose content is that of another new one.
        unreadable: a line each for the files with the name of an image that are none, or too large.
        others: files without the name of an image; they are not opened.
    """

    new: list[ImageRecord] = field(default_factory=list)
    known: int = 0
    copies: int = 0
    unreadable: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)

    @property
    def images(self) -> int:
        """Files with the name of an image."""
        return len(self.new) + self.known + self.copies + len(self.unreadable)


def list_files(locations: Sequence[str], store: ObjectStore) -> list[tuple[int, Source, SourceFile]]:
    """Return every file of the places, with the number of its place.

    Raises:
        DataError: a place that does not exist.
        StorageError: the store failed.
    """
    sources = [open_source(location, store) for location in locations]
    return [(number, source, file) for number, source in enumerate(sources) for file in source.files()]


def scan(
    locations: Sequence[str],
    known: Collection[str],
    store: ObjectStore,
    config: RetrainConfig,
    max_pixels: int,
    generation: int,
    copy: bool,
    step: Callable[[int, int], None] = lambda done, total: None,
) -> Scan:
    """Look for new images.

    Args:
        locations: folders, prefixes or single files.
        known: digests of the images that are there already.
        store: reads `s3://` locations; takes the bytes of new local images.
        config: limits.
        max_pixels: larger images count as unreadable.
        generation: of the data set that will have them; their ids start with it.
        copy: whether local images go into the store, which a plan alone does not need.
        step: called with (files read, files in all).

    Raises:
        DataError: a place that does not exist; or more than `max_unreadable_share` cannot be read, with a line each.
        StorageError: the store failed.
    """
    found = Scan()
    wanted: list[ImageFile] = []
    for number, source, file in list_files(locations, store):
        if not file.name.lower().endswith(tuple(SUFFIXES)):
            found.others.append(file.location)
        elif file.bytes > config.max_file_mb * _MEGA:
            limit = f"retrain.max_file_mb = {config.max_file_mb:g}"
            found.unreadable.append(f"{file.location}: {file.bytes / _MEGA:.1f} MB exceed {limit}")
        else:
            wanted.append(ImageFile(f"+{generation}/{number}/{file.name}", source, file))
    reader = ImageReader(store, max_pixels)
    reader.copying = copy
    seen: set[str] = set()
    for done, read in enumerate(reader.read_all(wanted), 1):
        step(done, len(wanted))
        if isinstance(read, DataError):
            found.unreadable += read.problems
        elif read.record.digest in known:
            found.known += 1
        elif read.record.digest in seen:
            found.copies += 1
        else:
            seen.add(read.record.digest)
            found.new.append(read.record)
    _check_share(found, config)
    return found


def keep_scan(found: Scan, store: ObjectStore, write: bool) -> InputRef | None:
    """Return the reference of the new images' index, or None without a new image.

    Args:
        found: by `scan`.
        store: where it is kept, at a place that depends on its content alone.
        write: whether it is written; a plan only needs to know what it would be.
    """
    if not found.new:
        return None
    data = encode_index(found.new)
    digest = digest_bytes(data)
    uri = f"{store.root}/intake/{digest.removeprefix('sha256:')[:32]}.parquet"
    if write:
        store.put(uri, data, TableFormat.media_type)
    return InputRef(uri=uri, digest=digest)


def _check_share(found: Scan, config: RetrainConfig) -> None:
    bad, limit = len(found.unreadable), config.max_unreadable_share
    if found.images and bad > limit * found.images:
        head = (
            f"{bad} of {found.images} image files cannot be read, more than retrain.max_unreadable_share = {limit:g}; "
            "mend the sources or raise it"
        )
        raise DataError([head, *found.unreadable])
