"""A content-addressed cache of objects on the local disk.

A file's name is the digest of its bytes, so nothing in the cache can be out of date. Bytes are verified before a file
appears (by an atomic rename) and again on its first use by a process. The least recently used files go when the size
bound is passed. Several processes may share one folder.
"""

from __future__ import annotations

import logging
import multiprocessing.util
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from sskd_core.errors import IntegrityError, StorageError
from sskd_core.storage.digest import digest_file
from sskd_core.storage.faults import no_space

log = logging.getLogger(__name__)
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_PARTIAL = ".partial-"
_READ_ONLY = 0o444
_ABANDONED_SECONDS = 24 * 3600.0
# Evicting a little more than needed keeps the next insertions from scanning the folder again.
_KEEP_FRACTION = 0.9


class ObjectCache:
    """The cache.

    Args:
        directory: where it lives; None for a private folder that goes with the process.
        max_bytes: size bound. The newest file always stays, so a single object may exceed it.
    """

    def __init__(self, directory: Path | None, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._given = directory
        self._private: tuple[int, Path] | None = None
        self._verified: set[Path] = set()
        self._used_bytes: int | None = None

    def fetch(self, uri: str, digest: str | None, download: Callable[[Path], None]) -> Path:
        """Return the local copy of an object, downloading it when it is not there.

        Args:
            uri: the object, for messages.
            digest: the expected digest, `sha256:...`; None to download it whatever it is.
            download: writes the object's bytes to the path that it is given.

        Returns:
            A read-only file. Open it at once: it may be evicted later, which leaves open files readable.

        Raises:
            IntegrityError: malformed digest, or the downloaded bytes are not those of `digest`.
            StorageError: the disk is full or the folder cannot be written.
        """
        if digest is not None and not _DIGEST.fullmatch(digest):
            raise IntegrityError(f"{uri}: {digest!r} is not a digest of the form sha256:<64 hex digits>")
        try:
            directory = self._directory()
            if digest is not None and self._is_usable(_path(directory, digest), digest):
                return _path(directory, digest)
            return self._insert(uri, directory, digest, download)
        except OSError as error:
            place = self._given or Path(tempfile.gettempdir())
            raise no_space(error, place, "storage.cache_dir") or StorageError(
                f"cannot write the cache in {place} ({error.strerror}); set storage.cache_dir to a writable folder"
            ) from None

    def _directory(self) -> Path:
        if self._given is not None:
            return self._given
        if self._private is None or self._private[0] != os.getpid():
            path = Path(tempfile.mkdtemp(prefix="sskd-cache-"))
            # Unlike atexit, this also runs at the end of a worker process of multiprocessing.
            multiprocessing.util.Finalize(None, shutil.rmtree, args=(path, True), exitpriority=1)
            self._private = (os.getpid(), path)
            self._verified, self._used_bytes = set(), None
        return self._private[1]

    def _is_usable(self, path: Path, digest: str) -> bool:
        try:
            os.utime(path)  # marks it as used; the modification time orders the eviction
            if path in self._verified:
                return True
            if digest_file(path) == digest:
                self._verified.add(path)
                return True
        except FileNotFoundError:
            return False
        log.warning("%s was damaged on disk; reading the object again", path)
        path.unlink(missing_ok=True)
        return False

    def _insert(self, uri: str, directory: Path, digest: str | None, download: Callable[[Path], None]) -> Path:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle, name = tempfile.mkstemp(dir=directory, prefix=_PARTIAL)
        os.close(handle)
        partial = Path(name)
        try:
            download(partial)
            actual = digest_file(partial)
            if digest is not None and actual != digest:
                raise mismatch(uri, digest, actual)
            partial.chmod(_READ_ONLY)
            size = partial.stat().st_size
            path = _path(directory, actual)
            path.parent.mkdir(exist_ok=True, mode=0o700)
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
        self._verified.add(path)
        self._account(path, size)
        return path

    def _account(self, newest: Path, size: int) -> None:
        if self._used_bytes is None:
            self._used_bytes = sum(entry[1] for entry in self._scan())
        else:
            self._used_bytes += size
        if self._used_bytes > self.max_bytes:
            self._used_bytes = self._evict(newest)

    def _evict(self, newest: Path) -> int:
        entries = sorted(self._scan())
        total = sum(size for _, size, _ in entries)
        for _, size, path in entries:
            if total <= self.max_bytes * _KEEP_FRACTION:
                break
            if path != newest:
                path.unlink(missing_ok=True)
                self._verified.discard(path)
                total -= size
        return total

    def _scan(self) -> list[tuple[float, int, Path]]:
        """Return (time of last use, bytes, path) of each cached file, and drop what killed processes left."""
        directory = self._directory()
        found: list[tuple[float, int, Path]] = []
        for path in [*directory.glob(f"{_PARTIAL}*"), *directory.glob("[0-9a-f][0-9a-f]/*")]:
            try:
                facts = path.stat()
            except FileNotFoundError:
                continue
            if not path.name.startswith(_PARTIAL):
                found.append((facts.st_mtime, facts.st_size, path))
            elif time.time() - facts.st_mtime > _ABANDONED_SECONDS:
                path.unlink(missing_ok=True)
        return found


def _path(directory: Path, digest: str) -> Path:
    name = digest.removeprefix("sha256:")
    return directory / name[:2] / name


def mismatch(uri: str, expected: str, actual: str) -> IntegrityError:
    """Return the error for bytes that are not those that a manifest names."""
    return IntegrityError(
        f"{uri}: expected {expected}, found {actual}; the object was damaged or replaced after it was written: "
        "delete the folder that holds it and run again"
    )
