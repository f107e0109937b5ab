from __future__ import annotations

from pathlib import Path

import pytest

from sskd_core.errors import DataError, StorageError
from sskd_core.storage.source import Source, SourceFile, open_source
from sskd_core.storage.store import ObjectStore

NAMES = ["b.png", "a/2.JPG", "a/1.png", "a-1.png", "a/deep/er/x.png", "notes.txt"]
HIDDEN = [".hidden.png", ".git/a.png", "a/.cache/b.png"]
SORTED = ["a-1.png", "a/1.png", "a/2.JPG", "a/deep/er/x.png", "b.png", "notes.txt"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "images und mehr"
    for name in NAMES + HIDDEN:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())
    return root


@pytest.fixture
def prefix(store: ObjectStore) -> str:
    for name in [*NAMES, *HIDDEN]:
        store.put(f"{store.root}/images/{name}", name.encode())
    return f"{store.root}/images"


@pytest.fixture(params=["folder", "file uri", "prefix", "prefix with slash"])
def source(request: pytest.FixtureRequest, folder: Path, prefix: str, store: ObjectStore) -> Source:
    locations = {
        "folder": str(folder),
        "file uri": folder.as_uri(),
        "prefix": prefix,
        "prefix with slash": f"{prefix}/",
    }
    return open_source(locations[request.param], store)


class TestAnySource:
    def test_files_are_sorted_and_visible(self, source: Source) -> None:
        found = list(source.files())
        assert [item.name for item in found] == SORTED
        assert [item.bytes for item in found] == [len(name) for name in SORTED]
        assert all(item.location.endswith(item.name) for item in found)

    def test_suffixes_ignore_case(self, source: Source) -> None:
        assert [item.name for item in source.files({".jpg", ".txt"})] == ["a/2.JPG", "notes.txt"]

    def test_names_are_readable(self, source: Source) -> None:
        for item in source.files():
            assert source.read(item.name) == item.name.encode()

    def test_missing_file(self, source: Source) -> None:
        with pytest.raises(DataError, match=r"a/none\.png: cannot be read: no such") as error:
            source.read("a/none.png")
        assert "\n" not in str(error.value)

    @pytest.mark.parametrize("name", ["../outside.png", "a/../../outside.png", "/etc/hostname"])
    def test_names_that_lead_outside(self, source: Source, name: str) -> None:
        with pytest.raises(DataError):
            source.read(name)


class TestSingleFile:
    def test_local(self, folder: Path, store: ObjectStore) -> None:
        source = open_source(str(folder / "b.png"), store)
        assert list(source.files({".png"})) == [SourceFile("b.png", str(folder / "b.png"), 5)]
        assert list(source.files({".jpg"})) == []
        assert source.read("b.png") == b"b.png"
        with pytest.raises(DataError, match="is not inside"):
            source.read("notes.txt")

    def test_object(self, prefix: str, store: ObjectStore) -> None:
        source = open_source(f"{prefix}/b.png", store)
        assert list(source.files({".png"})) == [SourceFile("b.png", f"{prefix}/b.png", 5)]
        assert list(source.files({".jpg"})) == []
        assert source.read("b.png") == b"b.png"
        with pytest.raises(DataError, match="is not inside"):
            source.read("notes.txt")


class TestLinks:
    def test_links_that_end_outside_are_ignored(self, folder: Path, store: ObjectStore) -> None:
        outside = folder.parent / "outside"
        outside.mkdir()
        (outside / "secret.png").write_bytes(b"secret")
        (folder / "link.png").symlink_to(outside / "secret.png")
        (folder / "linked").symlink_to(outside)
        (folder / "loop").symlink_to(folder)
        (folder / "broken.png").symlink_to(folder / "nothing.png")
        source = open_source(str(folder), store)
        assert [item.name for item in source.files()] == SORTED
        for name in ("link.png", "linked/secret.png"):
            with pytest.raises(DataError, match="is not inside"):
                source.read(name)

    def test_links_that_stay_inside_count(self, folder: Path, store: ObjectStore) -> None:
        (folder / "z.png").symlink_to(folder / "b.png")
        source = open_source(str(folder), store)
        assert [item.name for item in source.files()] == [*SORTED, "z.png"]
        assert source.read("z.png") == b"b.png"

    def test_the_source_itself_may_be_a_link(self, folder: Path, store: ObjectStore) -> None:
        link = folder.parent / "data"
        link.symlink_to(folder)
        assert [item.name for item in open_source(str(link), store).files()] == SORTED


class TestLocation:
    def test_missing_folder(self, tmp_path: Path, store: ObjectStore) -> None:
        with pytest.raises(DataError, match=r"nowhere: no such file or folder"):
            open_source(str(tmp_path / "nowhere"), store)

    @pytest.mark.parametrize("location", ["https://example.org/a", "gs://bucket/a", "file://host/a"])
    def test_other_kinds_of_uri(self, store: ObjectStore, location: str) -> None:
        with pytest.raises(DataError, match=f"{location}: "):
            open_source(location, store)

    def test_empty_prefix_is_legal(self, store: ObjectStore) -> None:
        assert list(open_source(f"{store.root}/empty", store).files()) == []

    def test_prefix_outside_the_roots(self, store: ObjectStore) -> None:
        with pytest.raises(StorageError, match=r"outside the allowed prefixes.*storage\.read_roots"):
            open_source("s3://sskd/elsewhere", store)

    def test_whole_bucket(self, store: ObjectStore, prefix: str) -> None:
        bucket = ObjectStore(store.config.model_copy(update={"read_roots": ["s3://sskd"]}))
        names = {item.location for item in open_source("s3://sskd", bucket).files()}
        assert f"{prefix}/b.png" in names

    def test_home_folder(self, folder: Path, store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HOME", str(folder.parent))
        assert [item.name for item in open_source(f"~/{folder.name}", store).files()] == SORTED

    def test_folder_markers_are_not_files(self, store: ObjectStore) -> None:
        store.put(f"{store.root}/marked/", b"")
        store.put(f"{store.root}/marked/sub/", b"")
        store.put(f"{store.root}/marked/sub/a.png", b"a")
        assert [item.name for item in open_source(f"{store.root}/marked/", store).files()] == ["sub/a.png"]
