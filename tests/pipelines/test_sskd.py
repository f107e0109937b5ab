"""The pipeline is the graph that the configuration declares; `test_compile.py` has what all pipelines share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines.cluster import ClusterConfig
from pipelines.compile import compile_pipeline
from sskd_core.config.graph import SSKD
from sskd_core.config.train_job import TrainJobConfig
from tests.compiled_pipeline import graph_of, inside, leaves

DIGEST = "sha256:" + "0" * 64
IMAGE = f"registry.example/sskd@{DIGEST}"
CPU_IMAGE = f"registry.example/sskd-cpu@{DIGEST}"
FAN_OUT = [node.name for node in SSKD if node.fan_out]


def compiled(target: Path, cluster: ClusterConfig | None = None, **defaults: Any) -> str:
    compile_pipeline(target, cluster or ClusterConfig(), defaults)
    return target.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> str:
    return compiled(tmp_path_factory.mktemp("compiled") / "new" / "sskd.yaml")


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """The pipeline's and the platform's document of a release."""
    cluster = ClusterConfig(
        image=IMAGE,
        cpu_image=CPU_IMAGE,
        run_as_user=12345,
        run_as_group=23456,
        config_maps={"team": {"endpoint": "MLFLOW_TRACKING_URI"}},
        pull_secrets=["registry"],
        nodes={"distill": {"gpus": 4, "timeout_minutes": 9000}},
    )
    return list(yaml.safe_load_all(compiled(tmp_path_factory.mktemp("released") / "sskd.yaml", cluster)))


def test_the_graph_is_that_of_the_nodes(text: str):
    graph = graph_of(next(yaml.safe_load_all(text)))
    assert graph.pop("configure") == {}
    assert graph == {node.name: dict(node.inputs) for node in SSKD}


@pytest.mark.parametrize("node", FAN_OUT)
def test_a_labelling_round_splits_over_workers_and_waits_for_them(node: str, text: str):
    document = next(yaml.safe_load_all(text))
    outer = inside(document, node)
    loop = outer["for-loop-1"]
    assert loop["parameterIterator"]["items"] == {"inputParameter": "pipelinechannel--workers"}
    (worker,) = document["components"][loop["componentRef"]["name"]]["dag"]["tasks"].values()
    assert worker["taskInfo"]["name"] == f"{node} worker"
    collect = next(task for task in outer.values() if task["taskInfo"]["name"] == node)
    assert collect["inputs"]["artifacts"]["workers"]["taskOutputArtifact"]["producerTask"] == "for-loop-1"
    for task in (worker, collect):
        assert task["inputs"]["parameters"]["node"]["runtimeValue"]["constant"] == node


def test_the_form_can_be_filled_in_beforehand(tmp_path: Path):
    document = next(
        yaml.safe_load_all(compiled(tmp_path / "p.yaml", distill_iterations=7, storage_root="s3://bucket/x"))
    )
    form = document["root"]["inputDefinitions"]["parameters"]
    assert form["distill_iterations"]["defaultValue"] == 7
    assert form["storage_root"]["defaultValue"] == "s3://bucket/x"


def test_gpus_are_where_they_are_needed_and_may_be_placed(released: list[dict[str, Any]]):
    document, platform = released
    kubernetes = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    executors = document["deploymentSpec"]["executors"]
    counts = {}
    for name, task in leaves(document).items():
        accelerator = executors[task["executor"]]["container"]["resources"].get("accelerator")
        counts[name] = int(accelerator["resourceCount"]) if accelerator else 0
        environment = executors[task["executor"]]["container"].get("env", [])
        assert environment == ([{"name": "SSKD_GPUS", "value": str(counts[name])}] if counts[name] else [])
        tolerations = kubernetes[task["executor"]].get("tolerations", [])
        assert bool(tolerations) == bool(counts[name]), name
    assert counts.pop("distill") == 4
    gpu = {"adapt_teacher", "self_train_teacher", "train_supervised", "refine", "evaluate"}
    assert {name for name, count in counts.items() if count} == gpu | {f"{name} worker" for name in FAN_OUT}
    assert set(counts.values()) == {0, 1}


def test_a_place_of_its_own(tmp_path: Path):
    affinity = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
        {"matchExpressions": [{"key": "pool", "operator": "In", "values": ["gpu"]}]}]}}  # fmt: skip
    text = compiled(tmp_path / "p.yaml", ClusterConfig(gpu={"node_affinity": affinity, "gpus": 2}))  # type: ignore[arg-type]
    document, platform = yaml.safe_load_all(text)
    pod = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"][leaves(document)["distill"]["executor"]]
    assert pod["nodeAffinity"][0]["nodeAffinityJson"]["runtimeValue"]["constant"] == affinity
    assert int(pod["activeDeadlineSeconds"]) == 2880 * 60  # what the file leaves out stays as it was


def test_a_training_on_several_machines_asks_for_them_and_needs_no_gpu_itself(tmp_path: Path):
    cluster = ClusterConfig(image=IMAGE, nodes={"distill": {"machines": 2, "gpus": 8, "timeout_minutes": 9000}})
    document, platform = yaml.safe_load_all(compiled(tmp_path / "p.yaml", cluster))
    executor = leaves(document)["distill"]["executor"]
    container = document["deploymentSpec"]["executors"][executor]["container"]
    (variable,) = container["env"]
    assert variable["name"] == "SSKD_TRAIN_JOB"
    job = TrainJobConfig.model_validate_json(variable["value"])
    assert (job.machines, job.gpus, job.image) == (2, 8, IMAGE)
    assert "accelerator" not in container["resources"]
    pod = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"][executor]
    assert "tolerations" not in pod
    assert int(pod["activeDeadlineSeconds"]) == 9000 * 60
