from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from sskd_core.config.storage import StorageConfig
from sskd_core.errors import IntegrityError, StorageError
from sskd_core.storage.digest import digest_bytes
from sskd_core.storage.faults import MissingObjectError, no_space, translated
from sskd_core.storage.store import ObjectStore

CONTENT = bytes(range(256)) * 64


def changed(store: ObjectStore, **update: object) -> ObjectStore:
    return ObjectStore(store.config.model_copy(update=update), attempts=1)


def message(error: pytest.ExceptionInfo[BaseException]) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text


class TestWrongConfiguration:
    def test_nothing_listens(self, store: ObjectStore) -> None:
        with pytest.raises(StorageError) as error:
            changed(store, endpoint_url="http://127.0.0.1:9").put(f"{store.root}/a", b"a")
        assert message(error) == (
            "cannot reach the object store at http://127.0.0.1:9; check storage.endpoint_url and that the server runs"
        )

    def test_some_other_web_server(self, store: ObjectStore) -> None:
        master = f"http://127.0.0.1:{int(store.config.endpoint_url.rpartition(':')[2]) + 2}"
        with pytest.raises(StorageError, match="does not answer like an S3 store"):
            changed(store, endpoint_url=master).get(f"{store.root}/a")

    def test_missing_bucket(self, store: ObjectStore) -> None:
        nowhere = changed(store, root="s3://no-such-bucket/x")
        for call in (
            lambda: nowhere.put("s3://no-such-bucket/x/a", b"a"),
            lambda: nowhere.get("s3://no-such-bucket/x/a"),
            lambda: nowhere.get_if_exists("s3://no-such-bucket/x/a"),
            lambda: list(nowhere.list("s3://no-such-bucket/x")),
        ):
            with pytest.raises(StorageError) as error:
                call()
            assert "bucket 'no-such-bucket' does not exist at http" in message(error)
            assert "storage.root" in message(error)

    @pytest.mark.parametrize("variable", ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"])
    def test_wrong_credentials(self, store: ObjectStore, monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
        monkeypatch.setenv(variable, "wrong")
        with pytest.raises(StorageError) as error:
            changed(store).put(f"{store.root}/a", b"a")
        assert "refused the credentials" in message(error)
        assert "AWS_ACCESS_KEY_ID" in message(error)

    def test_no_credentials(self, store: ObjectStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        for variable in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
            monkeypatch.setenv(variable, str(tmp_path / "absent"))
        with pytest.raises(StorageError, match=r"no usable credentials for http.*AWS_ACCESS_KEY_ID"):
            changed(store).put(f"{store.root}/a", b"a")

    def test_unknown_profile(self, store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AWS_PROFILE", "no-such-profile")
        with pytest.raises(StorageError, match=r"no usable credentials.*no-such-profile"):
            changed(store).put(f"{store.root}/a", b"a")


class TestFailingStore:
    def test_busy_store_is_asked_again(self, faulty) -> None:
        faulty.faults = [(503, "SlowDown"), (500, "InternalError")]
        faulty.store.put(f"{faulty.store.root}/a", CONTENT)
        assert len(faulty.requests) == 3
        faulty.faults = [(503, "SlowDown")] * 2
        assert faulty.store.get(f"{faulty.store.root}/a") == CONTENT

    def test_busy_for_good_is_one_line(self, faulty) -> None:
        faulty.faults = [(503, "SlowDown")] * 50
        with pytest.raises(StorageError) as error:
            faulty.store.put(f"{faulty.store.root}/a", CONTENT)
        assert "failed repeatedly (SlowDown: on purpose)" in message(error)
        assert len(faulty.requests) == 5

    def test_reset_connection_is_made_again(self, faulty) -> None:
        faulty.faults = ["reset", "reset"]
        faulty.store.put(f"{faulty.store.root}/a", CONTENT)
        faulty.faults = ["reset"]
        assert faulty.store.get(f"{faulty.store.root}/a") == CONTENT

    def test_reset_for_good_is_one_line(self, faulty) -> None:
        faulty.faults = ["reset"] * 50
        with pytest.raises(StorageError) as error:
            faulty.store.get(f"{faulty.store.root}/a")
        assert "cannot reach the object store at http" in message(error)

    def test_conditional_put_whose_answer_was_lost(self, faulty, store: ObjectStore) -> None:
        faulty.faults = ["lost"]
        assert faulty.store.put_if_absent(f"{store.root}/a", CONTENT) is False
        assert store.get(f"{store.root}/a") == CONTENT

    def test_conditional_put_against_a_concurrent_one(self, faulty) -> None:
        faulty.faults = [(409, "ConditionalRequestConflict")]
        assert faulty.store.put_if_absent(f"{faulty.store.root}/a", CONTENT) is False

    @pytest.mark.parametrize(
        ("status", "code", "expected"),
        [
            (507, "InsufficientStorage", "no space left in the object store"),
            (507, "XMinioStorageFull", "no space left in the object store"),
            (403, "AccessDenied", "access denied for PutObject"),
            (403, "RequestTimeTooSkewed", "this machine's clock is wrong"),
            (403, "ExpiredToken", "refused the credentials"),
            (400, "AuthorizationHeaderMalformed", "set storage.region"),
            (501, "NotImplemented", "use a newer store"),
            (400, "InvalidPart", r"refused PutObject \(InvalidPart: on purpose\)"),
        ],
    )
    def test_refusals_are_one_line(self, faulty, status: int, code: str, expected: str) -> None:
        faulty.faults = [(status, code)] * 20
        with pytest.raises(StorageError, match=expected) as error:
            faulty.store.put(f"{faulty.store.root}/a", CONTENT)
        message(error)


class TestBrokenBodies:
    def test_truncated_body_is_read_again(self, faulty, store: ObjectStore) -> None:
        store.put(f"{store.root}/a", CONTENT)
        faulty.faults = ["truncate", "truncate"]
        assert faulty.store.get(f"{store.root}/a") == CONTENT
        assert len(faulty.requests) == 3

    def test_truncated_download_is_fetched_again(self, faulty, store: ObjectStore) -> None:
        store.put(f"{store.root}/a", CONTENT)
        faulty.faults = ["truncate"]
        assert faulty.store.fetch(f"{store.root}/a", digest_bytes(CONTENT)).read_bytes() == CONTENT

    def test_truncated_for_good_is_one_line(self, faulty, store: ObjectStore, tmp_path: Path) -> None:
        store.put(f"{store.root}/a", CONTENT)
        for call in (faulty.store.get, lambda uri: faulty.store.fetch(uri, digest_bytes(CONTENT))):
            faulty.faults = ["truncate"] * 5
            with pytest.raises(StorageError, match="the transfer broke off") as error:
                call(f"{store.root}/a")
            message(error)
        assert not [path for path in (tmp_path / "object-cache").rglob("*") if path.is_file()]

    def test_flipped_bit_is_found_before_use(self, faulty, store: ObjectStore) -> None:
        ref = store.put_output("a", f"{store.root}/a", CONTENT)
        for call in (faulty.store.read, lambda ref: faulty.store.fetch(ref.uri, ref.digest)):
            faulty.faults = ["flip"]
            with pytest.raises(IntegrityError) as error:
                call(ref)
            assert ref.uri in message(error)
            assert ref.digest in message(error)
            assert digest_bytes(bytes([CONTENT[0] ^ 1]) + CONTENT[1:]) in message(error)


def test_missing_object_is_told_apart() -> None:
    answer = {"Error": {"Code": "NoSuchKey"}, "ResponseMetadata": {"HTTPStatusCode": 404}}
    config = StorageConfig(root="s3://bucket", region="eu-central-1")
    with (
        pytest.raises(MissingObjectError, match="s3://bucket/a: no such object at AWS S3 in eu-central-1"),
        translated("s3://bucket/a", config),
    ):
        raise ClientError(answer, "GetObject")


def test_full_disk_names_the_setting() -> None:
    full = no_space(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), Path("/x"), "storage.cache_dir")
    assert "no space left on the disk of /x" in str(full)
    assert "storage.cache_dir" in str(full)
    assert no_space(OSError(errno.EACCES, "denied"), Path("/x"), "storage.cache_dir") is None
