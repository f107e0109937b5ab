"""Checks of what a run stands on, each by doing the thing: store, disk, shared memory, devices.

A check never raises; it says what it found and, when that is not enough, what to do about it.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sskd_core.config.storage import StorageConfig
from sskd_core.errors import UserError
from sskd_core.storage.store import ObjectStore

_GIB = 1 << 30
_ATTEMPTS = 2
_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 (measured, never written)
_SHARED_MEMORY_GIB = 0.5
_DISK_GIB = 5.0
_NOT_CONFORMING = "this store does not keep the S3 promises that results rely on; use a newer version or another store"


@dataclass(frozen=True)
class Check:
    """The result of one check.

    Attributes:
        name: what was checked.
        ok: whether a run can rely on it.
        detail: what was found.
        advice: what to do; empty when it is well.
    """

    name: str
    ok: bool
    detail: str
    advice: str = ""


def check_storage(config: StorageConfig) -> list[Check]:
    """Put, read, conditionally put, list and delete a small object below `{root}/.doctor`.

    Returns:
        One check a step, up to the first that fails.
    """
    checks: list[Check] = []
    try:
        store = ObjectStore(config, attempts=_ATTEMPTS)
    except UserError as error:
        return [_failed("storage configuration", error)]
    uri = f"{store.root}/.doctor/{secrets.token_hex(8)}"
    for name, step in _steps(store, uri):
        try:
            problem = step()
        except UserError as error:
            with contextlib.suppress(UserError):
                store.delete(uri)
            return [*checks, _failed(f"storage {name}", error)]
        checks.append(Check(f"storage {name}", not problem, problem or store.root, _NOT_CONFORMING if problem else ""))
    return checks


def check_shared_memory() -> Check:
    """Look at /dev/shm, through which data loader workers hand over their batches."""
    name = "shared memory"
    if not _SHARED_MEMORY.is_dir():
        return Check(name, True, f"no {_SHARED_MEMORY} on this system")
    free = shutil.disk_usage(_SHARED_MEMORY).free / _GIB
    detail = f"{free:.1f} GiB free in {_SHARED_MEMORY}"
    if free >= _SHARED_MEMORY_GIB:
        return Check(name, True, detail)
    advice = "give the container more (docker run --shm-size=2g, or a memory emptyDir at /dev/shm in Kubernetes)"
    return Check(name, False, detail, advice)


def check_disk(directory: Path) -> Check:
    """Look at the free space of the disk that holds `directory`, which need not exist yet."""
    name = f"disk of {directory}"
    existing = next((path for path in (directory, *directory.absolute().parents) if path.exists()), Path("/"))
    if not os.access(existing, os.W_OK):
        return Check(name, False, f"{existing} is not writable", "choose another folder or change its permissions")
    free = shutil.disk_usage(existing).free / _GIB
    if free >= _DISK_GIB:
        return Check(name, True, f"{free:.1f} GiB free")
    return Check(name, False, f"{free:.1f} GiB free", f"free at least {_DISK_GIB:.0f} GiB or choose another disk")


def check_devices() -> Check:
    """Name what training would run on."""
    name = "devices"
    try:
        import torch
    except ModuleNotFoundError as error:
        return _predictor_only(name) if error.name == "torch" else _broken_torch(name, error)
    except (ImportError, OSError) as error:
        return _broken_torch(name, error)
    if torch.cuda.is_available():
        found = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
        listed = ", ".join(f"{item.name} ({item.total_memory / _GIB:.0f} GiB)" for item in found)
        return Check(name, True, f"{listed}; torch {torch.__version__}")
    return Check(name, True, f"CPU with {torch.get_num_threads()} threads, no CUDA device; torch {torch.__version__}")


def _broken_torch(name: str, error: Exception) -> Check:
    reason = " ".join(str(error).split())
    return Check(name, False, f"torch cannot be imported: {reason}", "install the package again: pip install sskd")


def _predictor_only(name: str) -> Check:
    """Name what predictions run on where torch is left out on purpose."""
    try:
        import onnxruntime
    except (ImportError, OSError) as error:
        return _broken_torch(name, error)
    providers = ", ".join(onnxruntime.get_available_providers())
    return Check(name, True, f"no torch, so for predictions only: onnxruntime {onnxruntime.__version__} on {providers}")


def _steps(store: ObjectStore, uri: str) -> list[tuple[str, Callable[[], str]]]:
    """Return (name, step); a step returns what is wrong with the store's answer, empty for nothing."""
    content = secrets.token_bytes(1024)

    def put() -> str:
        store.put(uri, content)
        return ""

    def get() -> str:
        return "" if store.get(uri) == content else f"{uri} came back with other bytes"

    def conditional_put() -> str:
        return f"a conditional put replaced {uri}" if store.put_if_absent(uri, b"other") else ""

    def listing() -> str:
        folder = uri.rpartition("/")[0]
        return "" if uri in {item.uri for item in store.list(folder)} else f"{uri} is missing from the listing"

    def delete() -> str:
        store.delete(uri)
        return f"{uri} is still there after its deletion" if store.exists(uri) else ""

    return [
        ("put", put),
        ("get", get),
        ("conditional put", conditional_put),
        ("list", listing),
        ("delete", delete),
    ]


def _failed(name: str, error: UserError) -> Check:
    """Split the error's line at its last semicolon into what is wrong and what to do."""
    detail, found, advice = str(error).rpartition("; ")
    return Check(name, False, detail if found else advice, advice if found else "see docs/storage.md")
