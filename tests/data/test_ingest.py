"""Reading images in threads: order, how far ahead, and which failures are a file's own."""

from __future__ import annotations

from io import BytesIO

import pytest
from PIL import Image

from sskd_core.config.storage import StorageConfig
from sskd_core.data.ingest import ImageFile, ImageReader, ReadImage
from sskd_core.errors import DataError, StorageError
from sskd_core.storage.source import SourceFile
from sskd_core.storage.store import ObjectStore


def picture(width: int) -> bytes:
    stream = BytesIO()
    Image.new("RGB", (width, 2)).save(stream, "PNG")
    return stream.getvalue()


class MemorySource:
    """A source of pictures `N`, N pixels wide."""

    location = "s3://bucket/images"

    def __init__(self, broken: dict[str, Exception] | None = None) -> None:
        self.broken = broken or {}

    def files(self, suffixes=None):
        raise NotImplementedError

    def read(self, name: str) -> bytes:
        if name in self.broken:
            raise self.broken[name]
        return picture(int(name))


def image_files(source: MemorySource, count: int) -> list[ImageFile]:
    names = [str(number + 1) for number in range(count)]
    return [ImageFile(name, source, SourceFile(name, f"{source.location}/{name}", 1)) for name in names]


@pytest.fixture
def reader() -> ImageReader:
    # Never asked: the pictures say that they are in a store already.
    return ImageReader(ObjectStore(StorageConfig(root="s3://bucket", max_concurrency=2)), max_pixels=1_000)


def test_images_come_in_order_with_the_size_of_each(reader):
    found = list(reader.read_all(image_files(MemorySource(), 40)))
    assert [item.record.width for item in found if isinstance(item, ReadImage)] == list(range(1, 41))
    assert found[0].record.uri == "s3://bucket/images/1"


def test_only_a_few_images_are_read_ahead(reader):
    asked: list[ImageFile] = []
    files = (asked.append(file) or file for file in image_files(MemorySource(), 100))
    stream = reader.read_all(files)
    for done in range(1, 20):
        next(stream)
        assert len(asked) < done + 2 * 4
    stream.close()


def test_what_is_wrong_with_a_file_takes_its_place(reader):
    source = MemorySource(broken={"3": DataError("s3://bucket/images/3: cannot be read: no such object")})
    found = list(reader.read_all(image_files(source, 4)))
    assert [isinstance(item, DataError) for item in found] == [False, False, True, False]


def test_a_failing_store_ends_the_reading(reader):
    source = MemorySource(broken={"3": StorageError("cannot reach the object store")})
    with pytest.raises(StorageError, match="cannot reach"):
        list(reader.read_all(image_files(source, 4)))
