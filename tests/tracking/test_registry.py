from __future__ import annotations

import pytest
from mlflow.exceptions import MlflowException

from sskd_core.config.tracking import TrackingConfig
from sskd_core.errors import IntegrityError, UserError
from sskd_core.storage.store import ObjectStore
from sskd_core.tracking.registry import FILE_TAG, PREVIOUS, Registration, ensure_registered, read_model, version_of

NAME = "student"


def wanted(number: int, alias: str | None = "champion", **tags: str) -> Registration:
    return Registration(NAME, f"s3://bucket/{number}", None, f"sha256:{number}", tags, alias)


def holder(client, alias: str) -> str | None:
    found = version_of(client, NAME, alias)
    return None if found is None else str(found.version)


def test_a_fingerprint_is_registered_once(client):
    first = ensure_registered(client, wanted(1, **{"sskd.family": "dinov2_dpt"}))
    assert ensure_registered(client, wanted(1)) == first == "1"
    assert len(client.search_model_versions(f"name = '{NAME}'")) == 1
    version = client.get_model_version(NAME, first)
    assert version.source == "s3://bucket/1"
    assert version.tags["sskd.family"] == "dinov2_dpt"
    assert version.tags["sskd.verdict"] == "passed"


def test_the_one_before_is_kept_as_previous(client):
    for number in (1, 2, 3):
        ensure_registered(client, wanted(number))
    assert holder(client, "champion") == "3"
    assert holder(client, PREVIOUS) == "2"


def test_a_rejected_version_moves_no_alias(client):
    ensure_registered(client, wanted(1))
    rejected = ensure_registered(client, wanted(2, alias=None))
    assert holder(client, "champion") == "1"
    assert holder(client, PREVIOUS) is None
    assert client.get_model_version(NAME, rejected).tags["sskd.verdict"] == "rejected"


def test_a_version_found_again_does_not_take_the_alias_back(client):
    for number in (1, 2, 1):
        ensure_registered(client, wanted(number))
    assert holder(client, "champion") == "2"


@pytest.mark.parametrize("broken", ["set_registered_model_alias", "set_model_version_tag"])
def test_a_promotion_that_was_cut_off_is_completed(client, monkeypatch: pytest.MonkeyPatch, broken: str):
    ensure_registered(client, wanted(1))

    def cut_off(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(client, broken, cut_off)
    with pytest.raises(KeyboardInterrupt):
        ensure_registered(client, wanted(2))
    monkeypatch.undo()
    assert ensure_registered(client, wanted(2)) == "2"
    assert (holder(client, "champion"), holder(client, PREVIOUS)) == ("2", "1")


def test_a_registry_that_refuses_is_one_line(client, monkeypatch: pytest.MonkeyPatch):
    def refuse(*args: object, **values: object) -> None:
        raise MlflowException("PERMISSION_DENIED: not yours\n(trace)")

    monkeypatch.setattr(client, "create_model_version", refuse)
    with pytest.raises(
        UserError, match=r"cannot register a version of 'student' in MLflow: PERMISSION_DENIED: not yours$"
    ):
        ensure_registered(client, wanted(1))


@pytest.mark.parametrize("uri", [f"models:/{NAME}@champion", f"models:/{NAME}/1"])
def test_the_file_is_read_and_verified(client, tracking: TrackingConfig, store: ObjectStore, uri: str):
    file = store.put_output("onnx", f"{store.root}/model.onnx", b"the network")
    ensure_registered(client, wanted(1, **{FILE_TAG: f"{file.uri} {file.digest}"}))
    assert read_model(uri, tracking, store) == b"the network"


def test_a_file_that_was_replaced_is_refused(client, tracking: TrackingConfig, store: ObjectStore):
    file = store.put_output("onnx", f"{store.root}/model.onnx", b"the network")
    ensure_registered(client, wanted(1, **{FILE_TAG: f"{file.uri} {file.digest}"}))
    store.put(file.uri, b"another network")
    with pytest.raises(IntegrityError, match=r"model\.onnx"):
        read_model(f"models:/{NAME}@champion", tracking, store)


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("models:/student", "does not name a version; give models:/NAME@ALIAS"),
        ("models:/student@", "does not name a version"),
        ("models:/student@challenger", "the registry has no models:/student@challenger"),
        ("models:/nobody/1", "the registry has no models:/nobody/1"),
        ("models:/student/1", "was not registered by sskd"),
    ],
)
def test_a_version_that_cannot_be_read_is_one_line(
    client, tracking: TrackingConfig, store: ObjectStore, uri: str, message: str
):
    ensure_registered(client, wanted(1))
    with pytest.raises(UserError, match=message) as caught:
        read_model(uri, tracking, store)
    assert "\n" not in str(caught.value)
