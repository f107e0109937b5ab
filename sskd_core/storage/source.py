"""What the user brings: a folder, a prefix or a single file, on the local disk or in the store, read the same way.

Files come in one order whatever the disk or the server thinks of it, hidden ones are left out, and no name and no link
leads outside the place that was given.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol
from urllib.parse import unquote, urlsplit

from sskd_core.errors import DataError
from sskd_core.storage.store import ObjectStore
from sskd_core.storage.uri import SCHEME, normalize_root

_FILE_SCHEME = "file:"


@dataclass(frozen=True)
class SourceFile:
    """One file of a source.

    Attributes:
        name: relative to the source, with forward slashes.
        location: path or URI, for messages.
        bytes: its size.
    """

    name: str
    location: str
    bytes: int


class Source(Protocol):
    """A place that files are read from."""

    location: str

    def files(self, suffixes: Collection[str] | None = None) -> Iterator[SourceFile]:
        """Yield the files, sorted by name.

        Args:
            suffixes: only these, in lower case with the dot, whatever the case in the name; None for all.
        """
        ...

    def read(self, name: str) -> bytes:
        """Return the bytes of the file of this name.

        Raises:
            DataError: there is none, or the name leads outside the source.
        """
        ...


def open_source(location: str, store: ObjectStore | None) -> Source:
    """Open a folder, a prefix or a single file.

    Args:
        location: local path, `file://` or `s3://` URI; an `s3://` one must lie below the store's root or read roots.
        store: reads `s3://` locations; None where only local ones are meant.

    Raises:
        DataError: a local path that does not exist, or an unknown kind of URI.
        StorageError: an `s3://` URI outside the allowed prefixes, or a store that cannot be reached.
    """
    if location.startswith(SCHEME) and store is not None:
        return _open_prefix(location, store)
    path = _local_path(location)
    if path.is_dir():
        return LocalSource(location, path.resolve())
    if path.is_file():
        resolved = path.resolve()
        return LocalSource(location, resolved.parent, only=resolved.name)
    raise DataError(f"{location}: no such file or folder")


class LocalSource:
    """A folder of the local disk, or one file of it.

    Args:
        location: as the user wrote it.
        folder: the folder, resolved.
        only: the one file that counts; None for all below the folder.
    """

    def __init__(self, location: str, folder: Path, only: str | None = None) -> None:
        self.location = location
        self._folder = folder
        self._only = only

    def files(self, suffixes: Collection[str] | None = None) -> Iterator[SourceFile]:
        """See `Source`. Linked folders are not entered; linked files count if they end inside the source."""
        names = [self._only] if self._only is not None else sorted(self._walk())
        for name in names:
            path = self._folder / name
            if _wanted(name, suffixes) and path.is_file() and self._is_inside(path):
                yield SourceFile(name, str(path), path.stat().st_size)

    def read(self, name: str) -> bytes:
        """See `Source`."""
        path = self._folder / name
        if (self._only is not None and name != self._only) or not self._is_inside(path):
            raise DataError(f"{name!r} is not inside {self.location}")
        try:
            return path.read_bytes()
        except OSError as error:
            raise DataError(f"{path}: cannot be read: {(error.strerror or str(error)).lower()}") from None

    def _walk(self) -> Iterator[str]:
        for folder, folders, names in os.walk(self._folder):
            folders[:] = [item for item in folders if not item.startswith(".")]
            for name in names:
                yield (Path(folder) / name).relative_to(self._folder).as_posix()

    def _is_inside(self, path: Path) -> bool:
        return path.resolve().is_relative_to(self._folder)


class PrefixSource:
    """A prefix of the object store, or one object of it.

    Args:
        location: as the user wrote it.
        prefix: the prefix, without a slash at the end.
        store: reads it.
        only: the one object that counts, relative to the prefix; None for all below.
    """

    def __init__(self, location: str, prefix: str, store: ObjectStore, only: str | None = None) -> None:
        self.location = location
        self._prefix = prefix
        self._store = store
        self._only = only

    def files(self, suffixes: Collection[str] | None = None) -> Iterator[SourceFile]:
        """See `Source`. An empty prefix has no files."""
        if self._only is not None:
            uri = f"{self._prefix}/{self._only}"
            if _wanted(self._only, suffixes):
                yield SourceFile(self._only, uri, self._store.size(uri))
            return
        for item in self._store.list(self._prefix):
            name = item.uri.removeprefix(f"{self._prefix}/")
            is_folder_marker = not name or name.endswith("/")
            if not is_folder_marker and _wanted(name, suffixes):
                yield SourceFile(name, item.uri, item.bytes)

    def read(self, name: str) -> bytes:
        """See `Source`."""
        if (self._only is not None and name != self._only) or ".." in name.split("/"):
            raise DataError(f"{name!r} is not inside {self.location}")
        data = self._store.get_if_exists(f"{self._prefix}/{name}")
        if data is None:
            raise DataError(f"{self._prefix}/{name}: cannot be read: no such object")
        return data


def _open_prefix(location: str, store: ObjectStore) -> PrefixSource:
    prefix = normalize_root(location)
    if not location.endswith("/") and prefix.count("/") > 2 and store.exists(prefix):
        parent, _, name = prefix.rpartition("/")
        return PrefixSource(location, parent, store, only=name)
    return PrefixSource(location, prefix, store)


def _local_path(location: str) -> Path:
    if location.startswith(_FILE_SCHEME):
        parts = urlsplit(location)
        if parts.netloc not in ("", "localhost"):
            raise DataError(f"{location}: a file:// URI must name a file of this machine, as in file:///folder")
        return Path(unquote(parts.path))
    if "://" in location:
        raise DataError(f"{location}: only local paths, file:// and s3:// URIs can be read")
    return Path(location).expanduser()


def _wanted(name: str, suffixes: Collection[str] | None) -> bool:
    path = PurePosixPath(name)
    hidden = any(part.startswith(".") for part in path.parts)
    return not hidden and (suffixes is None or path.suffix.lower() in suffixes)
