"""The first task of a run: what is wrong with form, secrets, services and data is told before anything is spent."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from sskd_core.config.assemble import fill_in
from sskd_core.config.storage import StorageConfig
from sskd_core.config.tracking import TrackingConfig
from sskd_core.errors import DataError, IntegrityError, UserError
from sskd_core.stages.configure import check_secrets, configure, experiment_uri, kept_experiment, pinned
from sskd_core.storage.store import ObjectStore
from tests.micro import micro_data, micro_experiment


def test_the_experiment_is_checked_pinned_and_kept(store: ObjectStore, tracking: TrackingConfig):
    wanted = micro_experiment(store.config, micro_data(store), tracking=tracking.model_dump())
    made = configure(fill_in(wanted), "run-1", {}, check=True)
    assert made.data.sources_digest is not None
    assert made.teacher.weights_digest is not None
    assert pinned(wanted, store) == made.model_copy(update={"storage": wanted.storage})
    assert kept_experiment(store, "run-1") == made
    assert kept_experiment(store, "run-2") is None
    assert list(store.list(f"{store.root}/.doctor")) == []


def test_a_kept_experiment_that_is_none_is_named(store: ObjectStore):
    store.put(experiment_uri(store, "run-1"), b'{"name": "x"}')
    with pytest.raises(IntegrityError, match=r"runs/run-1/experiment.json is no experiment of this version"):
        kept_experiment(store, "run-1")


def test_a_run_without_a_place_is_refused(store: ObjectStore):
    experiment = micro_experiment(StorageConfig(), micro_data(store))
    with pytest.raises(UserError, match=r"'storage_root' \(storage.root\) is required"):
        configure(fill_in(experiment), "run-1", {}, check=True)


def test_a_missing_secret_is_named_with_the_command_that_checks_it(store: ObjectStore):
    form = fill_in(micro_experiment(store.config, micro_data(store)))
    with pytest.raises(UserError) as caught:
        configure(form, "run-1", {"NO_SUCH_KEY": "sskd-s3/secret-key"}, check=True)
    assert str(caught.value) == (
        "NO_SUCH_KEY is not set: the namespace has no secret 'sskd-s3' with the key 'secret-key'; "
        "check: kubectl describe secret sskd-s3"
    )
    assert kept_experiment(store, "run-1") is None
    check_secrets({"A": "s/k"}, {"A": "value"})


@pytest.fixture
def closed() -> str:
    """A URL at which nobody answers."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


def test_an_endpoint_that_does_not_answer_is_one_line(store: ObjectStore, closed: str):
    form = fill_in(micro_experiment(store.config, micro_data(store))) | {"storage_endpoint": closed}
    with pytest.raises(UserError) as caught:
        configure(form, "run-1", {}, check=True)
    assert closed in str(caught.value)
    assert str(caught.value).endswith("check: sskd doctor")
    assert len(str(caught.value).splitlines()) == 1


def test_an_mlflow_server_that_does_not_answer_is_one_line(
    store: ObjectStore, closed: str, tracking: TrackingConfig, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    wanted = micro_experiment(store.config, micro_data(store), tracking={"mode": "own", "uri": closed})
    with pytest.raises(UserError, match=r"MLflow at http://127.*does not answer.*check: sskd doctor"):
        configure(fill_in(wanted), "run-1", {}, check=True)


def test_a_run_is_pinned_to_its_data_and_weights(store: ObjectStore):
    experiment = micro_experiment(store.config, micro_data(store))
    first = pinned(experiment, store)
    assert first.data.sources_digest is not None
    assert pinned(first, store) == first
    store.put(f"{experiment.data.unlabeled[0]}/another.jpg", b"more")
    assert pinned(experiment, store).data.sources_digest != first.data.sources_digest
    weights = {"family": "mask2former", "weights": "builtin:demo-teacher"}
    shipped = pinned(micro_experiment(store.config, experiment.data, teacher=weights), store)
    assert shipped.teacher.weights_digest is not None


def test_missing_data_is_told_before_anything_starts(store: ObjectStore, tmp_path: Path):
    data = micro_data(store).model_copy(update={"unlabeled": [str(tmp_path / "none")]})
    with pytest.raises(DataError, match=r"data\.unlabeled\[0\].*none"):
        pinned(micro_experiment(store.config, data), store)
