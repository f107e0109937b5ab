from __future__ import annotations

import fcntl
import subprocess
import sys
from pathlib import Path

import pytest

from sskd_core.errors import UserError
from sskd_core.tracking.embedded import embedded_uri, opening


def test_the_folder_is_made_and_the_path_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    assert embedded_uri(Path("deep/state")) == f"sqlite:///{tmp_path}/deep/state/mlflow.db"
    assert (tmp_path / "deep" / "state").is_dir()


def test_processes_take_turns(tmp_path: Path):
    uri = embedded_uri(tmp_path)
    with (tmp_path / "mlflow.db.lock").open("w") as other:
        with opening(uri), pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_what_is_no_database_is_told_at_once(tmp_path: Path):
    (tmp_path / "mlflow.db").write_text("something else entirely")
    with (
        pytest.raises(UserError, match=r"mlflow.db is not a SQLite database; move it away"),
        opening(embedded_uri(tmp_path)),
    ):
        pass


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(UserError, match="cannot keep MLflow's store at"),
        opening(f"sqlite:///{tmp_path}/file/mlflow.db"),
    ):
        pass


@pytest.mark.parametrize("uri", ["http://127.0.0.1:5000", "sqlite:///:memory:", "postgresql://db/mlflow"])
def test_other_stores_need_no_turns(uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    with opening(uri):
        assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_processes_that_start_together_do_not_make_the_tables_twice(tmp_path: Path):
    code = (
        "import sys; from sskd_core.config.storage import StorageConfig\n"
        "from sskd_core.config.tracking import TrackingConfig; from sskd_core.tracking.client import connect\n"
        "connect(TrackingConfig(uri=sys.argv[1]), StorageConfig())"
    )
    command = [sys.executable, "-c", code, embedded_uri(tmp_path)]
    processes = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    endings = [(process.communicate()[1], process.returncode) for process in processes]
    assert [code for _, code in endings] == [0, 0, 0], endings
