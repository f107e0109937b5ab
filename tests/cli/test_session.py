from __future__ import annotations

from pathlib import Path

import pytest

from sskd_core.cli.session import open_session, open_storage, resolve_tracking, settings_of
from sskd_core.config.loading import load_experiment
from sskd_core.config.storage import CACHE_VARIABLE
from sskd_core.config.tracking import TrackingConfig
from sskd_core.errors import UserError
from sskd_core.storage.store import ObjectStore
from tests.micro import FILE, micro_data, micro_experiment


def test_what_the_experiment_names_is_left_alone(store: ObjectStore, tmp_path: Path):
    experiment = micro_experiment(store.config, micro_data(store), tracking={"uri": "sqlite:///mine.db"})
    with open_session(experiment, tmp_path / "state") as complete:
        assert complete == experiment
    assert not (tmp_path / "state" / "state.json").exists(), "an embedded store was started beside the named one"


def test_what_it_leaves_open_is_embedded_and_stops_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    experiment = load_experiment(str(FILE), ["storage.multipart_mb=7"])
    with open_session(experiment, tmp_path / "state") as complete:
        store = ObjectStore(complete.storage)
        store.put(f"{store.root}/x", b"x")
        assert complete.storage.multipart_mb == 7, "a setting of the user's was lost"
        assert complete.storage.cache_dir == str(tmp_path / "state" / "cache")
        assert complete.tracking.uri is not None
        assert str(tmp_path / "state") in complete.tracking.uri
        endpoint = complete.storage.endpoint_url
    with pytest.raises(UserError):
        ObjectStore(complete.storage, attempts=1).get(f"{store.root}/x")
    with open_session(experiment, tmp_path / "state") as complete:
        assert complete.storage.endpoint_url == endpoint
        assert ObjectStore(complete.storage).get(f"{store.root}/x") == b"x"


def test_a_cache_of_the_platform_s_is_left_to_it(store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "volume"))
    without = store.config.model_copy(update={"cache_dir": None})
    with open_storage(without, tmp_path / "state") as opened:
        assert opened.cache_dir is None


def test_a_server_of_the_environment_or_no_tracking_needs_no_embedded_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    off = TrackingConfig(mode="off")
    assert resolve_tracking(off, tmp_path / "state") == off
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://mlflow.example")
    assert resolve_tracking(TrackingConfig(), tmp_path / "state") == TrackingConfig()
    assert not (tmp_path / "state").exists()


def test_a_state_folder_that_cannot_be_made_is_one_line(store: ObjectStore, tmp_path: Path):
    (tmp_path / "file").write_text("")
    experiment = micro_experiment(store.config, micro_data(store))
    with (
        pytest.raises(UserError, match="choose another: --state-dir"),
        open_session(experiment, tmp_path / "file" / "state"),
    ):
        pass


def test_settings_come_from_the_file_or_are_the_embedded_ones(tmp_path: Path):
    file = tmp_path / "mine.yaml"
    file.write_text("{preset: demo, storage: {root: 's3://mine/x'}, tracking: {mode: 'off'}}")
    storage, tracking = settings_of(str(file))
    assert (storage.root, tracking.mode) == ("s3://mine/x", "off")
    assert settings_of(None)[0].root is None
