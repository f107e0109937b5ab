from __future__ import annotations

import contextlib
import errno
import multiprocessing
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from sskd_core.errors import IntegrityError, StorageError
from sskd_core.storage.cache import ObjectCache
from sskd_core.storage.digest import digest_bytes
from sskd_core.storage.store import ObjectStore

URI = "s3://bucket/a"
PLENTY = 1 << 30


class Download:
    """Writes given bytes and counts its calls."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.digest = digest_bytes(data)
        self.calls = 0

    def __call__(self, path: Path) -> None:
        self.calls += 1
        path.write_bytes(self.data)


def files(directory: Path) -> list[Path]:
    return [path for path in directory.rglob("*") if path.is_file()]


def test_downloads_once(tmp_path: Path) -> None:
    cache, download = ObjectCache(tmp_path / "not" / "yet", PLENTY), Download(b"content")
    path = cache.fetch(URI, download.digest, download)
    assert path.read_bytes() == b"content"
    assert stat.S_IMODE(path.stat().st_mode) == 0o444
    assert cache.fetch(URI, download.digest, download) == path
    assert ObjectCache(tmp_path / "not" / "yet", PLENTY).fetch(URI, download.digest, download) == path
    assert download.calls == 1


def test_wrong_bytes_never_appear(tmp_path: Path) -> None:
    cache = ObjectCache(tmp_path, PLENTY)
    with pytest.raises(
        IntegrityError, match=f"{URI}: expected {digest_bytes(b'right')}, found {digest_bytes(b'wrong')}"
    ):
        cache.fetch(URI, digest_bytes(b"right"), Download(b"wrong"))
    assert files(tmp_path) == []


@pytest.mark.parametrize(
    "digest", ["", "sha256:abc", "sha256:" + "A" * 64, "sha256:../../../etc/passwd", "md5:" + "a" * 64]
)
def test_malformed_digest(tmp_path: Path, digest: str) -> None:
    with pytest.raises(IntegrityError, match="is not a digest"):
        ObjectCache(tmp_path, PLENTY).fetch(URI, digest, Download(b""))


@pytest.mark.parametrize("damage", [b"CONTENT", b"cont", b""])
def test_damage_on_disk_is_found_at_first_use(tmp_path: Path, damage: bytes) -> None:
    download = Download(b"content")
    path = ObjectCache(tmp_path, PLENTY).fetch(URI, download.digest, download)
    path.chmod(0o644)
    path.write_bytes(damage)
    again = ObjectCache(tmp_path, PLENTY).fetch(URI, download.digest, download)
    assert again.read_bytes() == b"content"
    assert download.calls == 2


def test_unknown_digest_is_always_downloaded(tmp_path: Path) -> None:
    cache, download = ObjectCache(tmp_path, PLENTY), Download(b"first")
    assert cache.fetch(URI, None, download).read_bytes() == b"first"
    download.data = b"second"
    assert cache.fetch(URI, None, download).read_bytes() == b"second"
    assert cache.fetch(URI, digest_bytes(b"second"), download).read_bytes() == b"second"
    assert download.calls == 2


class TestBound:
    def test_least_recently_used_goes_first(self, tmp_path: Path) -> None:
        cache = ObjectCache(tmp_path, 1000)
        downloads = [Download(bytes([index]) * 300) for index in range(4)]
        paths = [cache.fetch(URI, item.digest, item) for item in downloads[:3]]
        for age, path in zip((300, 200, 100), paths, strict=True):
            os.utime(path, (path.stat().st_mtime - age,) * 2)
        cache.fetch(URI, downloads[0].digest, downloads[0])  # used again, so the second is now the oldest
        last = cache.fetch(URI, downloads[3].digest, downloads[3])
        assert sorted(files(tmp_path)) == sorted([paths[0], paths[2], last])

    def test_files_of_earlier_processes_count(self, tmp_path: Path) -> None:
        for index in range(3):
            earlier = Download(bytes([index]) * 300)
            ObjectCache(tmp_path, PLENTY).fetch(URI, earlier.digest, earlier)
        download = Download(b"x" * 300)
        ObjectCache(tmp_path, 700).fetch(URI, download.digest, download)
        assert sum(path.stat().st_size for path in files(tmp_path)) <= 700

    def test_one_object_may_be_larger(self, tmp_path: Path) -> None:
        cache, large = ObjectCache(tmp_path, 100), Download(b"x" * 500)
        assert cache.fetch(URI, large.digest, large).read_bytes() == large.data

    def test_evicted_file_is_downloaded_again(self, tmp_path: Path) -> None:
        cache, first, second = ObjectCache(tmp_path, 500), Download(b"1" * 400), Download(b"2" * 400)
        for download in (first, second, first):
            assert cache.fetch(URI, download.digest, download).read_bytes() == download.data
        assert first.calls == 2

    def test_open_file_survives_its_eviction(self, tmp_path: Path) -> None:
        cache, first, second = ObjectCache(tmp_path, 500), Download(b"1" * 400), Download(b"2" * 400)
        with cache.fetch(URI, first.digest, first).open("rb") as stream:
            cache.fetch(URI, second.digest, second)
            assert stream.read() == first.data

    def test_leftovers_of_killed_processes_go(self, tmp_path: Path) -> None:
        old, new = tmp_path / ".partial-old", tmp_path / ".partial-new"
        for path in (old, new):
            path.write_bytes(b"half")
        os.utime(old, (0, 0))
        download = Download(b"content")
        ObjectCache(tmp_path, PLENTY).fetch(URI, download.digest, download)
        assert not old.exists()
        assert new.exists()


class TestDisk:
    @pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
    def test_full(self, tmp_path: Path, code: int) -> None:
        def download(path: Path) -> None:
            path.write_bytes(b"half")
            raise OSError(code, os.strerror(code))

        with pytest.raises(StorageError, match=r"no space left on the disk of .*storage\.cache_dir"):
            ObjectCache(tmp_path, PLENTY).fetch(URI, digest_bytes(b"content"), download)
        assert files(tmp_path) == []

    def test_full_while_the_store_is_read(self, store: ObjectStore, tmp_path: Path) -> None:
        ref = store.put_output("a", f"{store.root}/a", b"content" * 1000)
        folder = Path("/dev/full")
        if not folder.exists():
            pytest.skip("needs /dev/full")
        read = store._download
        store._download = lambda uri, path: read(uri, folder)  # type: ignore[method-assign]
        with pytest.raises(StorageError, match=r"no space left on the disk of .*storage\.cache_dir"):
            store.fetch(ref.uri, ref.digest)
        assert files(tmp_path) == []

    def test_folder_that_is_a_file(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_bytes(b"")
        with pytest.raises(StorageError, match=r"cannot write the cache in .*storage\.cache_dir"):
            ObjectCache(tmp_path / "file", PLENTY).fetch(URI, digest_bytes(b"content"), Download(b"content"))


def fetch_many(
    directory: Path, contents: list[bytes], start: threading.Barrier, answers: multiprocessing.Queue[bool]
) -> None:
    cache = ObjectCache(directory, 2500)
    start.wait()
    good = True
    for content in contents * 5:
        download = Download(content)
        path = cache.fetch(URI, download.digest, download)
        with contextlib.suppress(FileNotFoundError):  # evicted by another process since
            good &= path.read_bytes() == content
    answers.put(good)


def test_processes_share_a_folder(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    contents = [bytes([index]) * 500 for index in range(10)]
    start, answers = context.Barrier(4), context.Queue()
    children = [context.Process(target=fetch_many, args=(tmp_path, contents, start, answers)) for _ in range(4)]
    for child in children:
        child.start()
    results = [answers.get(timeout=60) for _ in children]
    assert all(results)
    for child in children:
        child.join()
        assert child.exitcode == 0
    for path in files(tmp_path):
        assert digest_bytes(path.read_bytes()) == f"sha256:{path.name}"


PRIVATE = """
import multiprocessing, os, sys
from sskd_core.storage.cache import ObjectCache
from sskd_core.storage.digest import digest_bytes
from pathlib import Path
cache = ObjectCache(None, 1 << 20)
def use():
    path = cache.fetch("s3://b/a", digest_bytes(b"a"), lambda path: path.write_bytes(b"a"))
    folder = path.parent.parent
    print(folder, oct(folder.stat().st_mode & 0o777), path.read_bytes(), flush=True)
    return path
path = use()
child = multiprocessing.get_context("fork").Process(target=use)
child.start(); child.join()
assert path.exists()
"""


def test_private_folders_go_with_their_processes(tmp_path: Path) -> None:
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", PRIVATE], env=environment, capture_output=True, text=True, timeout=60, check=True
    )
    lines = [line.split() for line in done.stdout.splitlines()]
    assert [line[1:] for line in lines] == [["0o700", "b'a'"]] * 2
    assert lines[0][0] != lines[1][0]
    assert list(tmp_path.iterdir()) == []
