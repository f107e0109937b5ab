from __future__ import annotations

import json

import pytest
from finished_pipeline import COUNTS, FinishedPipeline

from sskd_core.config.tracking import TrackingConfig
from sskd_core.errors import IntegrityError, UserError
from sskd_core.storage.manifest import MEDIA_TYPE, InputRef
from sskd_core.storage.store import ObjectStore
from sskd_core.tracking.candidate import MANIFEST_TAG
from sskd_core.tracking.lineage import trace, version_lineage
from sskd_core.tracking.registry import Registration, ensure_version


@pytest.fixture
def finished(store: ObjectStore) -> FinishedPipeline:
    return FinishedPipeline(store)


def register(client, tracking: TrackingConfig, finished: FinishedPipeline) -> None:
    onnx = finished.manifests["export_onnx"]
    tags = {f"{MANIFEST_TAG}onnx": f"{onnx.uri} {onnx.digest}"}
    ensure_version(client, Registration(tracking.registered_model, "s3://bucket/m", None, "sha256:1", tags))
    client.set_registered_model_alias(tracking.registered_model, "champion", "1")


def test_from_the_champion_to_the_images(client, tracking: TrackingConfig, finished: FinishedPipeline):
    register(client, tracking, finished)
    found = version_lineage(tracking, finished.store)
    answer = found.to_dict()
    assert json.loads(json.dumps(answer)) == answer
    assert (answer["name"], answer["version"]) == ("sskd-student", "1")
    assert answer["aliases"] == ["challenger", "champion"]

    prepare = finished.manifests["prepare"]
    (images,) = answer["images"]
    assert {split: item["images"] for split, item in images.items()} == {k: v["images"] for k, v in COUNTS.items()}
    assert images["unlabeled"]["index"] == prepare.uri.replace("manifest.json", "images/unlabeled")
    assert images["unlabeled"]["digest"] == prepare.facts["digests"]["unlabeled"]

    rounds = {item["manifest"]: item for item in answer["labels"]}
    relabel = rounds[finished.manifests["relabel"].uri]
    assert relabel["teacher"] == finished.manifests["self_train_teacher"].digest
    assert (relabel["count"], relabel["instances"]) == (3, 120)
    assert finished.manifests["pseudo_label"].uri in rounds

    teachers = {item["digest"]: item for item in answer["teachers"]}
    assert teachers[relabel["teacher"]]["weights"] == "builtin:base"
    assert teachers[relabel["teacher"]]["licence"] == "Apache-2.0"

    assert answer["code"] == [prepare.code_digest]
    assert {item["run"] for item in answer["runs"]} >= {"run-of-distill", "run-of-prepare"}
    assert answer["licences"] == ["Apache-2.0", "CC-BY-4.0"]
    step = next(step for step in found.steps if step.stage == "refine")
    assert step.config["model"]["licence"] == "MIT"
    assert step.inputs["student"] == finished.manifests["distill"].digest


def test_each_stage_is_read_once(finished: FinishedPipeline):
    origins = [finished.manifests[name] for name in ("evaluate", "export_onnx", "refine")]
    steps = trace([InputRef(uri=item.uri, digest=item.digest) for item in origins], finished.store)
    assert sorted(step.uri for step in steps) == sorted(item.uri for item in finished.manifests.values())


def test_a_manifest_that_was_replaced_ends_the_walk(client, tracking: TrackingConfig, finished: FinishedPipeline):
    register(client, tracking, finished)
    distill = finished.manifests["distill"]
    forged = distill.model_copy(update={"licences": []})
    finished.store.put(distill.uri, forged.to_bytes(), MEDIA_TYPE)
    with pytest.raises(IntegrityError, match=distill.uri):
        version_lineage(tracking, finished.store)


def test_no_champion(tracking: TrackingConfig, store: ObjectStore):
    with pytest.raises(UserError, match="model 'sskd-student' has no version with the alias 'champion'"):
        version_lineage(tracking, store)


def test_a_version_of_another_tool(client, tracking: TrackingConfig, store: ObjectStore):
    ensure_version(client, Registration(tracking.registered_model, "s3://bucket/m", None, "sha256:1", {}))
    with pytest.raises(UserError, match="was not registered by sskd: it names no manifest"):
        version_lineage(tracking, store, "1")
