"""Reading image files once: prove that each decodes, take its digest and size, keep its bytes where stages find them.

A file that is in the object store already is referred to where it lies. A local one is copied to
`{root}/data/<first two digits>/<digest>`, a place that depends on nothing but its bytes, so that no image is stored
twice, whatever run or data set brings it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from sskd_core.data.images import ImageSize, decode_image, probe_size
from sskd_core.data.records import ImageRecord
from sskd_core.errors import DataError
from sskd_core.storage.digest import digest_bytes
from sskd_core.storage.source import Source, SourceFile
from sskd_core.storage.store import ObjectStore
from sskd_core.storage.uri import SCHEME

_WAITING_PER_THREAD = 4


@dataclass(frozen=True)
class ImageFile:
    """An image that is to be read.

    Attributes:
        image_id: what it is called from here on.
        source: where it lies.
        file: which file of the source.
    """

    image_id: str
    source: Source
    file: SourceFile


@dataclass(frozen=True)
class ReadImage:
    """An image that was read.

    Attributes:
        record: as the index will have it.
        size: as shown and as stored.
        location: the file that was read.
    """

    record: ImageRecord
    size: ImageSize
    location: str


class ImageReader:
    """Reads image files in threads, as many as the store's `max_concurrency`.

    Attributes:
        copying: whether local bytes are copied to the store. To be unset once the data set is known to be refused.

    Args:
        store: where local bytes are copied to.
        max_pixels: larger images are refused.
    """

    def __init__(self, store: ObjectStore, max_pixels: int) -> None:
        self.copying = True
        self._store = store
        self._max_pixels = max_pixels

    def read_all(self, files: Iterable[ImageFile]) -> Iterator[ReadImage | DataError]:
        """Yield what became of each file, in their order; only a few are read ahead.

        Raises:
            StorageError: the store failed, which is no problem of a single file.
        """
        threads = self._store.config.max_concurrency
        waiting: deque[Future[ReadImage | DataError]] = deque()
        pool = ThreadPoolExecutor(threads, thread_name_prefix="read")
        try:
            for file in files:
                waiting.append(pool.submit(self._read, file))
                if len(waiting) >= threads * _WAITING_PER_THREAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)

    def _read(self, image: ImageFile) -> ReadImage | DataError:
        where = image.file.location
        try:
            data = image.source.read(image.file.name)
            height, width, _ = decode_image(data, where, self._max_pixels).shape
            size = probe_size(data, where, self._max_pixels)
        except DataError as error:
            return error
        digest = digest_bytes(data)
        uri = where if where.startswith(SCHEME) else self._keep(data, digest)
        record = ImageRecord(image.image_id, uri, digest, len(data), width, height)
        return ReadImage(record, size, where)

    def _keep(self, data: bytes, digest: str) -> str:
        hexadecimal = digest.removeprefix("sha256:")
        uri = f"{self._store.root}/data/{hexadecimal[:2]}/{hexadecimal}"
        if self.copying and not self._store.exists(uri):
            self._store.put(uri, data)
        return uri
