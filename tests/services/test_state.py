from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from sskd_core.errors import StorageError
from sskd_core.services.ports import choose
from sskd_core.services.state import ServiceState, credentials, load_state, save_state


def state(directory: Path) -> ServiceState:
    return ServiceState(pid=1, started=2.5, ports=choose(), kept=True, directory=str(directory))


def test_round_trip(tmp_path: Path) -> None:
    assert load_state(tmp_path) is None
    made = state(tmp_path)
    save_state(tmp_path, made)
    assert load_state(tmp_path) == made
    assert [path.name for path in tmp_path.iterdir()] == ["state.json"]


def test_credentials_are_made_once(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        made = credentials(tmp_path)
    finally:
        os.umask(before)
    assert credentials(tmp_path) == made
    assert stat.S_IMODE((tmp_path / "credentials.json").stat().st_mode) == 0o600
    assert len(made.secret_key) >= 32
    (tmp_path / "other").mkdir()
    assert credentials(tmp_path / "other") != made


def test_address() -> None:
    made = state(Path("/folder"))
    config = made.storage_config()
    assert config.endpoint_url == f"http://127.0.0.1:{made.ports.s3}"
    assert (config.root, config.addressing_style) == ("s3://sskd/default", "path")


def test_unwritable_folder(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"cannot write .*state\.json: no such file"):
        save_state(tmp_path / "missing", state(tmp_path))
