from __future__ import annotations

import pytest
from mlflow.exceptions import MlflowException

from sskd_core.config.tracking import TrackingConfig
from sskd_core.errors import IntegrityError, UserError
from sskd_core.storage.store import ObjectStore
from sskd_core.tracking.registry import (
    CHALLENGER,
    FILE_TAG,
    FINGERPRINT_TAG,
    VERDICT_TAG,
    Registration,
    aliases,
    all_versions,
    ensure_version,
    find_versions,
    read_model,
    resolve,
)

NAME = "sskd-student"


def wanted(number: int, **tags: str) -> Registration:
    return Registration(NAME, f"s3://bucket/{number}", None, f"sha256:{number}", tags)


def test_a_fingerprint_is_registered_once(client):
    first = ensure_version(client, wanted(1, **{"sskd.family": "dinov2_dpt"}))
    assert ensure_version(client, wanted(1)).version == first.version
    assert len(all_versions(client, NAME)) == 1
    assert first.source == "s3://bucket/1"
    assert first.tags["sskd.family"] == "dinov2_dpt"


def test_a_new_version_is_the_challenger_until_it_was_judged(client):
    ensure_version(client, wanted(1))
    assert aliases(client, NAME) == {CHALLENGER: "1"}
    ensure_version(client, wanted(2))
    assert aliases(client, NAME) == {CHALLENGER: "2"}
    client.set_model_version_tag(NAME, "1", VERDICT_TAG, "rejected")
    ensure_version(client, wanted(1))
    assert aliases(client, NAME) == {CHALLENGER: "2"}


def test_of_twins_the_older_stays(client):
    """Two processes that looked at the same time have both found nothing, and both register."""
    first = ensure_version(client, wanted(1))
    client.create_model_version(NAME, "s3://bucket/1", tags={FINGERPRINT_TAG: "sha256:1"})
    assert len(find_versions(client, NAME, "sha256:1")) == 2
    assert ensure_version(client, wanted(1)).version == first.version
    assert len(find_versions(client, NAME, "sha256:1")) == 1


def test_a_registry_that_refuses_is_one_line(client, monkeypatch: pytest.MonkeyPatch):
    def refuse(*args: object, **values: object) -> None:
        raise MlflowException("PERMISSION_DENIED: not yours\n(trace)")

    monkeypatch.setattr(client, "create_model_version", refuse)
    message = rf"cannot register a version of '{NAME}' in MLflow: PERMISSION_DENIED: not yours$"
    with pytest.raises(UserError, match=message):
        ensure_version(client, wanted(1))


@pytest.mark.parametrize("reference", ["challenger", "1", f"models:/{NAME}@challenger", f"models:/{NAME}/1"])
def test_a_version_has_several_names(client, reference: str):
    ensure_version(client, wanted(1))
    assert str(resolve(client, NAME, reference).version) == "1"


@pytest.mark.parametrize("uri", [f"models:/{NAME}@challenger", f"models:/{NAME}/1"])
def test_the_file_is_read_and_verified(client, tracking: TrackingConfig, store: ObjectStore, uri: str):
    file = store.put_output("onnx", f"{store.root}/model.onnx", b"the network")
    ensure_version(client, wanted(1, **{FILE_TAG: f"{file.uri} {file.digest}"}))
    assert read_model(uri, tracking, store) == b"the network"


def test_a_file_that_was_replaced_is_refused(client, tracking: TrackingConfig, store: ObjectStore):
    file = store.put_output("onnx", f"{store.root}/model.onnx", b"the network")
    ensure_version(client, wanted(1, **{FILE_TAG: f"{file.uri} {file.digest}"}))
    store.put(file.uri, b"another network")
    with pytest.raises(IntegrityError, match=r"model\.onnx"):
        read_model(f"models:/{NAME}/1", tracking, store)


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        (f"models:/{NAME}", "does not name a version; give models:/NAME@ALIAS"),
        (f"models:/{NAME}@", "does not name a version"),
        (f"models:/{NAME}@champion", f"model '{NAME}' has no version with the alias 'champion'; `sskd models list`"),
        ("models:/nobody/1", "model 'nobody' has no version 1"),
        (f"models:/{NAME}/1", "was not registered by sskd"),
    ],
)
def test_a_version_that_cannot_be_read_is_one_line(
    client, tracking: TrackingConfig, store: ObjectStore, uri: str, message: str
):
    ensure_version(client, wanted(1))
    with pytest.raises(UserError, match=message) as caught:
        read_model(uri, tracking, store)
    assert "\n" not in str(caught.value)
