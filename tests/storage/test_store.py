from __future__ import annotations

import datetime as dt
import multiprocessing
import pickle
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from sskd_core.config.storage import CACHE_VARIABLE, StorageConfig
from sskd_core.errors import IntegrityError, StorageError
from sskd_core.storage.digest import digest_bytes
from sskd_core.storage.manifest import Manifest
from sskd_core.storage.store import ObjectInfo, ObjectStore

MIB = 1 << 20


def manifest(uri: str) -> Manifest:
    same = digest_bytes(b"")
    return Manifest(
        stage="prepare",
        fingerprint=same,
        config_digest=same,
        code_digest=same,
        created=dt.datetime(2026, 1, 2, tzinfo=dt.UTC),
        uri=uri,
    )


def test_root_is_needed() -> None:
    with pytest.raises(StorageError, match=r"storage.root is not set.*sskd services up"):
        ObjectStore(StorageConfig())


def test_a_platform_s_volume_is_the_cache(store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "volume"))
    mounted = ObjectStore(store.config.model_copy(update={"cache_dir": None}))
    ref = mounted.put_output("x", f"{store.root}/x", b"x")
    assert mounted.fetch(ref.uri, ref.digest).is_relative_to(tmp_path / "volume")
    named = ObjectStore(store.config.model_copy(update={"cache_dir": str(tmp_path / "named")}))
    assert named.fetch(ref.uri, ref.digest).is_relative_to(tmp_path / "named")


def test_round_trip(store: ObjectStore) -> None:
    uri = f"{store.root}/a folder/ü & #?%41+.png"
    assert store.get_if_exists(uri) is None
    assert not store.exists(uri)
    store.put(uri, b"content", "image/png")
    assert store.get(uri) == store.get_if_exists(uri) == b"content"
    assert store.exists(uri)
    assert store.size(uri) == 7
    store.put(uri, b"new")
    assert store.get(uri) == b"new"
    store.delete(uri)
    store.delete(uri)
    with pytest.raises(StorageError, match="no such object") as error:
        store.get(uri)
    assert str(error.value).startswith(uri)


def test_empty_object(store: ObjectStore) -> None:
    ref = store.put_output("empty", f"{store.root}/empty", b"")
    assert store.read(ref) == b""
    assert store.fetch(ref.uri, ref.digest).read_bytes() == b""


def test_references_name_their_bytes(store: ObjectStore, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"from a file")
    put = store.put_output("put", f"{store.root}/put", b"from memory", "text/plain")
    uploaded = store.upload_output("uploaded", f"{store.root}/uploaded", tmp_path / "file", "text/plain")
    assert (put.name, put.digest, put.bytes, put.media_type) == ("put", digest_bytes(b"from memory"), 11, "text/plain")
    assert (uploaded.digest, uploaded.bytes) == (digest_bytes(b"from a file"), 11)
    assert store.read(put) == b"from memory"
    assert store.read(uploaded) == b"from a file"


def test_multipart_transfers(store: ObjectStore, tmp_path: Path) -> None:
    small_parts = ObjectStore(store.config.model_copy(update={"multipart_mb": 5}))
    content = bytes(range(256)) * (11 * MIB // 256) + b"and a rest"
    (tmp_path / "large").write_bytes(content)
    put = small_parts.put_output("put", f"{store.root}/put", content)
    uploaded = small_parts.upload_output("uploaded", f"{store.root}/uploaded", tmp_path / "large")
    assert put.digest == uploaded.digest
    for ref in (put, uploaded):
        # The ETag of an object that came in parts ends with their number.
        assert small_parts._client.head_object(Bucket="sskd", Key=ref.uri.removeprefix("s3://sskd/"))["ETag"].endswith(
            '-3"'
        )
        assert small_parts.size(ref.uri) == len(content)
        assert small_parts.fetch(ref.uri, ref.digest).read_bytes() == content
        Path(small_parts.fetch(ref.uri, ref.digest)).unlink()


class TestConditionalPut:
    def test_only_the_first_writes(self, store: ObjectStore) -> None:
        uri = f"{store.root}/manifest.json"
        assert store.put_if_absent(uri, b"first") is True
        assert store.put_if_absent(uri, b"second") is False
        assert store.get(uri) == b"first"

    def test_a_race_has_one_winner(self, store: ObjectStore) -> None:
        writers = 4
        for round_ in range(3):
            uri, start = f"{store.root}/{round_}", threading.Barrier(writers)
            won: list[bytes] = []

            def write(name: bytes, uri: str = uri, start: threading.Barrier = start, won: list[bytes] = won) -> None:
                start.wait()
                if store.put_if_absent(uri, name):
                    won.append(name)

            threads = [threading.Thread(target=write, args=(b"%d" % index,)) for index in range(writers)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert len(won) == 1
            assert store.get(uri) == won[0]


class TestIntegrity:
    def test_a_replaced_object_is_found(self, store: ObjectStore) -> None:
        ref = store.put_output("weights", f"{store.root}/weights", b"right")
        store.put(ref.uri, b"wrong")
        for call in (lambda: store.read(ref), lambda: store.fetch(ref.uri, ref.digest)):
            with pytest.raises(IntegrityError) as error:
                call()
            for part in (ref.uri, digest_bytes(b"right"), digest_bytes(b"wrong"), "run again"):
                assert part in str(error.value)

    def test_manifest(self, store: ObjectStore) -> None:
        made = manifest(f"{store.root}/manifest.json")
        store.put(made.uri, made.to_bytes())
        assert store.manifest(made.uri) == made
        assert store.manifest(made.uri, made.digest) == made
        with pytest.raises(IntegrityError, match=f"expected {digest_bytes(b'')}, found {made.digest}"):
            store.manifest(made.uri, digest_bytes(b""))

    @pytest.mark.parametrize("data", [b"", b"{}", b'{"schema_version": 9}', b"\xff\x00", b"[1, 2"])
    def test_something_else_than_a_manifest(self, store: ObjectStore, data: bytes) -> None:
        store.put(f"{store.root}/manifest.json", data)
        with pytest.raises(IntegrityError, match="is not a manifest of this version") as error:
            store.manifest(f"{store.root}/manifest.json")
        assert "\n" not in str(error.value)


class TestList:
    def test_sorted_by_uri_wherever_folders_are_real(self, store: ObjectStore) -> None:
        names = ["a-b", "a/b", "a.b", "aB", "é"]
        for name in names:
            store.put(f"{store.root}/list/{name}", b"123")
        expected = [ObjectInfo(f"{store.root}/list/{name}", 3) for name in sorted(names)]
        assert list(store.list(f"{store.root}/list")) == list(store.list(f"{store.root}/list/")) == expected

    def test_a_prefix_is_a_folder(self, store: ObjectStore) -> None:
        for name in ("shard/1", "shards/1", "shard2"):
            store.put(f"{store.root}/{name}", b"")
        assert [item.uri for item in store.list(f"{store.root}/shard")] == [f"{store.root}/shard/1"]

    def test_nothing(self, store: ObjectStore) -> None:
        assert list(store.list(store.root)) == []

    def test_more_than_a_page(self, store: ObjectStore) -> None:
        for index in range(25):
            store.put(f"{store.root}/{index:03d}", b"")
        pages: list[int] = []

        def smaller(params: dict[str, object], **_: object) -> dict[str, object]:
            pages.append(1)
            return {**params, "MaxKeys": 10}

        store._client.meta.events.register("provide-client-params.s3.ListObjectsV2", smaller)
        assert [item.uri[-3:] for item in store.list(store.root)] == [f"{index:03d}" for index in range(25)]
        assert len(pages) == 3


class TestBoundaries:
    @pytest.fixture
    def calls(self, store: ObjectStore) -> list[Callable[[str], object]]:
        return [
            store.get,
            store.exists,
            store.size,
            lambda uri: list(store.list(uri)),
            lambda uri: store.fetch(uri, digest_bytes(b"")),
            store.fetch_uri,
            store.manifest,
        ]

    def test_nothing_is_read_outside(self, store: ObjectStore, calls: list[Callable[[str], object]]) -> None:
        for call in calls:
            for uri in ("s3://sskd/other/a", f"{store.root}x/a", "s3://other/a"):
                with pytest.raises(StorageError, match="outside the allowed prefixes") as error:
                    call(uri)
                assert store.root in str(error.value)

    def test_nothing_escapes(self, store: ObjectStore, calls: list[Callable[[str], object]]) -> None:
        for call in calls:
            with pytest.raises(StorageError, match="segment"):
                call(f"{store.root}/../other/a")

    def test_read_roots_are_read_only(self, store: ObjectStore) -> None:
        store.put(f"{store.root}/data/a", b"data")
        config = store.config.model_copy(update={"root": f"{store.root}/out", "read_roots": [f"{store.root}/data/"]})
        reader = ObjectStore(config)
        uri = f"{store.root}/data/a"
        assert reader.get(uri) == b"data"
        for write in (reader.put, reader.put_if_absent, lambda uri, data: reader.put_output("a", uri, data)):
            with pytest.raises(StorageError, match="outside the allowed prefixes"):
                write(uri, b"changed")
        with pytest.raises(StorageError, match="outside the allowed prefixes"):
            reader.delete(uri)
        assert store.get(uri) == b"data"


def read_in_child(store: ObjectStore, uri: str, answers: multiprocessing.Queue[tuple[bytes, bytes]]) -> None:
    answers.put((store.get(uri), store.fetch(uri, digest_bytes(b"content")).read_bytes()))


def test_forked_process_has_its_own_connections(store: ObjectStore) -> None:
    uri = f"{store.root}/a"
    store.put(uri, b"content")
    context = multiprocessing.get_context("fork")
    answers: multiprocessing.Queue[tuple[bytes, bytes]] = context.Queue()
    children = [context.Process(target=read_in_child, args=(store, uri, answers)) for _ in range(2)]
    for child in children:
        child.start()
    assert store.get(uri) == b"content"
    assert [answers.get(timeout=60) for _ in children] == [(b"content", b"content")] * 2
    for child in children:
        child.join()


def test_pickled_store_works(store: ObjectStore) -> None:
    store.put(f"{store.root}/a", b"content")
    assert pickle.loads(pickle.dumps(store)).get(f"{store.root}/a") == b"content"


@pytest.mark.parametrize("checksums", ["when_required", "when_supported"])
def test_checksum_policy(store: ObjectStore, checksums: str) -> None:
    strict = ObjectStore(store.config.model_copy(update={"checksums": checksums}))
    strict.put(f"{store.root}/a", b"content")
    assert strict.get(f"{store.root}/a") == b"content"
    seen: list[bool] = []
    strict._client.meta.events.register(
        "before-send.s3.PutObject",
        lambda request, **_: seen.append(any("checksum" in key.lower() for key in request.headers)),
    )
    strict.put(f"{store.root}/a", b"content")
    assert seen == [checksums == "when_supported"]
