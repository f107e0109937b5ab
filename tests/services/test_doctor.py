from __future__ import annotations

import sys
from collections import namedtuple
from pathlib import Path

import pytest

from sskd_core.config.storage import StorageConfig
from sskd_core.services import doctor
from sskd_core.services.doctor import check_devices, check_disk, check_shared_memory, check_storage
from sskd_core.storage.store import ObjectStore

Usage = namedtuple("Usage", "total used free")
GIB = 1 << 30


class TestStorage:
    def test_sound(self, store: ObjectStore) -> None:
        checks = check_storage(store.config)
        assert [check.name for check in checks] == [
            "storage put",
            "storage get",
            "storage conditional put",
            "storage list",
            "storage delete",
        ]
        assert all(check.ok and not check.advice for check in checks)
        assert list(store.list(store.root)) == []

    @pytest.mark.parametrize(
        ("update", "name", "detail", "advice"),
        [
            ({"root": None}, "storage configuration", "storage.root is not set", "sskd services up"),
            ({"root": "s3://missing"}, "storage put", "bucket 'missing' does not exist", "create it or correct"),
            ({"endpoint_url": "http://127.0.0.1:9"}, "storage put", "cannot reach", "check storage.endpoint_url"),
        ],
    )
    def test_unusable(self, store: ObjectStore, update: dict[str, str], name: str, detail: str, advice: str) -> None:
        (check,) = check_storage(store.config.model_copy(update=update))
        assert not check.ok
        assert check.name == name
        assert detail in check.detail
        assert advice in check.advice

    def test_store_without_conditional_puts(self, store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(ObjectStore, "put_if_absent", lambda self, uri, data: True)
        failed = [check for check in check_storage(store.config) if not check.ok]
        assert [check.name for check in failed] == ["storage conditional put"]
        assert "another store" in failed[0].advice

    def test_nothing_stays_after_a_failure(self, store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(self: ObjectStore, prefix: str) -> None:
            raise doctor.UserError("listing is refused; allow it")

        with monkeypatch.context() as patch:
            patch.setattr(ObjectStore, "list", fail)
            check = check_storage(store.config)[-1]
        assert (check.name, check.ok, check.detail, check.advice) == (
            "storage list",
            False,
            "listing is refused",
            "allow it",
        )
        assert list(store.list(store.root)) == []


class TestSharedMemory:
    @pytest.mark.parametrize(("free", "ok"), [(2 * GIB, True), (64 << 20, False)])
    def test_size(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, ok: bool) -> None:
        monkeypatch.setattr(doctor, "_SHARED_MEMORY", tmp_path)
        monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: Usage(free, 0, free))
        check = check_shared_memory()
        assert check.ok is ok
        assert ("--shm-size" in check.advice) is not ok

    def test_system_without(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(doctor, "_SHARED_MEMORY", tmp_path / "none")
        assert check_shared_memory().ok


class TestDisk:
    @pytest.mark.parametrize(("free", "ok"), [(6 * GIB, True), (GIB, False)])
    def test_free_space(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, ok: bool) -> None:
        monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: Usage(free, 0, free))
        check = check_disk(tmp_path / "not" / "yet")
        assert check.ok is ok
        assert f"{free / GIB:.1f} GiB free" in check.detail
        assert bool(check.advice) is not ok

    def test_not_writable(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(doctor.os, "access", lambda path, mode: False)
        check = check_disk(tmp_path)
        assert not check.ok
        assert f"{tmp_path} is not writable" in check.detail


class TestDevices:
    def test_names_what_there_is(self) -> None:
        check = check_devices()
        assert check.ok
        assert "torch" in check.detail

    def test_without_torch_it_is_a_predictor(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "torch", None)
        check = check_devices()
        assert check.ok
        assert "for predictions only: onnxruntime" in check.detail

    def test_without_either_it_is_broken(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "torch", None)
        monkeypatch.setitem(sys.modules, "onnxruntime", None)
        check = check_devices()
        assert not check.ok
        assert "pip install sskd" in check.advice


def test_defaults_need_a_store() -> None:
    (check,) = check_storage(StorageConfig())
    assert not check.ok
