from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from finished_pipeline import FinishedPipeline, pixels
from mlflow.tracking import MlflowClient

from sskd_core.config.finish import RegisterConfig
from sskd_core.config.gate import GateConfig
from sskd_core.config.tracking import TrackingConfig
from sskd_core.errors import IntegrityError
from sskd_core.progress import Progress
from sskd_core.stages import register
from sskd_core.stages.contract import StageContext, execute, stage_fingerprint, stage_prefix
from sskd_core.storage.manifest import Manifest
from sskd_core.storage.store import ObjectStore
from sskd_core.tracking.client import connect
from sskd_core.tracking.lineage import version_lineage
from sskd_core.tracking.registry import aliases, all_versions, read_model
from sskd_core.tracking.run import NullRun

GATE = GateConfig(min_mask_ap=35.0, min_gain_over_supervised=5.0)
OFF = TrackingConfig(mode="off")


@pytest.fixture
def registering(store: ObjectStore, tmp_path: Path):
    """Run the stage on a finished pipeline as `run_node` does."""

    def do(finished: FinishedPipeline, tracking: TrackingConfig) -> Manifest:
        config, inputs = RegisterConfig(gate=GATE, tracking=tracking), finished.register_inputs()
        identity = stage_fingerprint("register", config, inputs)
        workdir = tmp_path / f"work-{finished.name}-{tracking.mode}"
        workdir.mkdir()
        context = StageContext(
            store=store,
            run=NullRun(),
            progress=Progress("register", tmp_path),
            prefix=stage_prefix(store, "register", identity),
            workdir=workdir,
            fingerprint=identity,
        )
        return execute("register", register.run, config, inputs, context)

    return do


@pytest.fixture
def client(tracking: TrackingConfig, store: ObjectStore) -> MlflowClient:
    return connect(tracking, store.config)


def test_the_champion_loads_through_mlflow_and_answers_for_itself(
    registering, store: ObjectStore, tracking: TrackingConfig, client: MlflowClient
):
    import mlflow
    import onnxruntime

    finished = FinishedPipeline(store)
    manifest = registering(finished, tracking)
    assert manifest.facts["verdict"]["passed"] is True
    assert (manifest.facts["registered_model"], manifest.facts["version"]) == ("sskd-student", "1")
    assert manifest.facts["alias"] == "champion"
    assert json.loads(store.read(manifest.output("gate"))) == manifest.facts["verdict"]

    mlflow.set_tracking_uri(tracking.uri)
    try:
        loaded = mlflow.onnx.load_model("models:/sskd-student@champion")
    finally:
        mlflow.set_tracking_uri(None)
    session = onnxruntime.InferenceSession(loaded.SerializeToString(), providers=["CPUExecutionProvider"])
    np.testing.assert_array_equal(session.run(None, {"pixels": pixels()})[0], 2 * pixels())
    assert read_model("models:/sskd-student@champion", tracking, store) == store.read(
        finished.manifests["export_onnx"].output("onnx")
    )

    steps = version_lineage(tracking, store).steps
    assert {step.uri for step in steps} == {item.uri for item in finished.manifests.values()}
    tags = client.get_model_version("sskd-student", "1").tags
    assert json.loads(tags["sskd.gate"]) == manifest.facts["verdict"]
    assert tags["sskd.licences"] == "Apache-2.0, CC-BY-4.0"
    assert tags["sskd.mask_ap"] == "40.000"
    assert json.loads(tags["sskd.lineage.images"])[0]["unlabeled"]["images"] == 60
    assert {item["weights"] for item in json.loads(tags["sskd.lineage.teachers"])} == {"builtin:base"}
    assert len(json.loads(tags["sskd.lineage.runs"])) == len(finished.manifests)


def test_a_failed_gate_is_a_result_and_moves_nothing(
    registering, store: ObjectStore, tracking: TrackingConfig, client: MlflowClient
):
    registering(FinishedPipeline(store), tracking)
    manifest = registering(FinishedPipeline(store, refined=31.0, name="second"), tracking)
    assert manifest.facts["verdict"]["passed"] is False
    failed = [rule["name"] for rule in manifest.facts["verdict"]["rules"] if rule["verdict"] == "failed"]
    assert failed == ["min_mask_ap", "min_gain_over_supervised", "min_gain_over_champion"]
    assert (manifest.facts["version"], manifest.facts["alias"]) == ("2", None)
    assert client.get_model_version("sskd-student", "2").tags["sskd.verdict"] == "rejected"
    assert aliases(client, "sskd-student") == {"champion": "1", "challenger": "2"}


def test_without_tracking_the_verdict_stands_and_is_registered_later(
    registering, store: ObjectStore, tracking: TrackingConfig, client: MlflowClient
):
    manifest = registering(FinishedPipeline(store), OFF)
    assert manifest.facts["verdict"]["passed"] is True
    assert (manifest.facts["registered_model"], manifest.facts["version"]) == (None, None)
    register.on_cached(manifest, store, OFF)
    for _ in range(2):
        register.on_cached(manifest, store, tracking)
    assert aliases(client, "sskd-student") == {"champion": "1"}
    (version,) = all_versions(client, "sskd-student")
    assert version.source == manifest.uri.replace("manifest.json", "mlflow-model")


def test_a_champion_that_was_replaced_does_not_come_back_when_its_run_is_repeated(
    registering, store: ObjectStore, tracking: TrackingConfig, client: MlflowClient
):
    first = registering(FinishedPipeline(store), tracking)
    second = registering(FinishedPipeline(store, refined=70.0, name="second"), tracking)
    rejected = registering(FinishedPipeline(store, refined=31.0, name="third"), tracking)
    for manifest in (first, second, rejected):
        register.on_cached(manifest, store, tracking)
    assert aliases(client, "sskd-student") == {"champion": "2", "previous": "1", "challenger": "3"}


def test_a_registry_that_was_made_anew_gets_its_champion_back(
    registering, store: ObjectStore, tracking: TrackingConfig, client: MlflowClient
):
    registering(FinishedPipeline(store), tracking)
    second = registering(FinishedPipeline(store, refined=70.0, name="second"), tracking)
    client.delete_registered_model("sskd-student")
    register.on_cached(second, store, tracking)
    assert aliases(client, "sskd-student") == {"champion": "1"}
    (version,) = all_versions(client, "sskd-student")
    assert version.tags["sskd.verdict"] == "passed"


def test_a_twin_writes_the_same_bytes(registering, store: ObjectStore):
    finished = FinishedPipeline(store)
    first = registering(finished, OFF)
    store.delete(first.uri)
    folder = Path(store.config.cache_dir).parent / f"work-{finished.name}-off"
    folder.rename(folder.with_name("earlier"))
    second = registering(finished, OFF)
    assert [item.digest for item in second.outputs] == [item.digest for item in first.outputs]


def test_an_onnx_file_that_was_replaced_is_not_registered(
    registering, store: ObjectStore, tracking: TrackingConfig, client: MlflowClient
):
    finished = FinishedPipeline(store)
    store.put(finished.manifests["export_onnx"].output("onnx").uri, b"another network")
    with pytest.raises(IntegrityError, match="export_onnx"):
        registering(finished, tracking)
    assert client.search_registered_models() == []
    assert not list(store.list(f"{store.root}/stages/register/manifest.json"))


def test_the_stage_does_not_load_torch():
    code = (
        "import sys, mlflow.onnx, mlflow.models, mlflow.types, sskd_core.stages.register; print('torch' in sys.modules)"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "False"
