"""The identity of a data set at the moment that a run starts.

The configuration only says where the data is. With this digest in it, a run on changed data is another run, and its
stages do not find results of the old data.
"""

from __future__ import annotations

import hashlib

from sskd_core.config.data import DataConfig
from sskd_core.data.annotated import read_only_file
from sskd_core.data.images import SUFFIXES
from sskd_core.errors import DataError
from sskd_core.storage.digest import digest_bytes
from sskd_core.storage.source import open_source
from sskd_core.storage.store import ObjectStore


def pin_sources(data: DataConfig, store: ObjectStore) -> DataConfig:
    """Return the configuration with `sources_digest` set to that of the data as it is now, unless it is set.

    Raises:
        DataError: a place that does not exist, in one line each.
        StorageError: the store failed.
    """
    if data.sources_digest is not None:
        return data
    return data.model_copy(update={"sources_digest": sources_digest(data, store)})


def sources_digest(data: DataConfig, store: ObjectStore) -> str:
    """Return the digest of what the sources hold now: bytes of the annotation files, names and sizes of the images.

    Of a data set that goes on from another one only what was added counts; the rest is read from that one.

    No image is read, so replacing one by another of the same name and size goes unnoticed.

    Raises:
        DataError: a place that does not exist, in one line each.
        StorageError: the store failed.
    """
    state = hashlib.sha256()
    problems: list[str] = []
    given = {"data.labeled": data.labeled, "data.val": data.val, "data.test": data.test}
    annotated = given if data.added is None else data.added.annotated()
    for key, source in annotated.items():
        if source is None:
            continue
        try:
            text = read_only_file(source.annotations, f"{key}.annotations", store)
            state.update(f"{key} {digest_bytes(text)}\n".encode())
        except DataError as error:
            problems += error.problems
        problems += _add_listing(state, source.images, f"{key}.images", store)
    for number, location in enumerate(data.unlabeled if data.added is None else []):
        problems += _add_listing(state, location, f"data.unlabeled[{number}]", store)
    if problems:
        raise DataError(problems)
    return f"sha256:{state.hexdigest()}"


def _add_listing(state: hashlib._Hash, location: str, key: str, store: ObjectStore) -> list[str]:
    """Add names and sizes of the images at a location; return its problems."""
    state.update(f"{key}\n".encode())
    try:
        for file in open_source(location, store).files(SUFFIXES):
            state.update(f"{file.bytes} {file.name}\n".encode())
    except DataError as error:
        return [f"{key}: {problem}" for problem in error.problems]
    return []
