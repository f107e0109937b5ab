"""The pipeline is the graph that the configuration declares, and compiles to the YAML under `golden/`.

After a wanted change: `make golden`, and read the difference before committing it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines.cluster import ClusterConfig
from pipelines.compile import compile_pipeline
from sskd_core.config.graph import SSKD
from sskd_core.config.parameters import PARAMETERS
from sskd_core.config.train_job import TrainJobConfig

GOLDEN = Path(__file__).parent / "golden" / "sskd.yaml"
DIGEST = "sha256:" + "0" * 64
IMAGE = f"registry.example/sskd@{DIGEST}"
CPU_IMAGE = f"registry.example/sskd-cpu@{DIGEST}"
FAN_OUT = [node.name for node in SSKD if node.fan_out]
SECRET_SHAPES = [
    re.compile(r"AKIA[0-9A-Z]{16}"),
    re.compile(r"-----BEGIN"),
    re.compile(r"eyJ[A-Za-z0-9_-]{10,}\."),
    re.compile(r"://[^/\s'\"]+:[^/\s'\"]+@"),
    re.compile(r"(?i)(password|token|secret_?key)['\"]?\s*[:=]\s*['\"]?[A-Za-z0-9+/]{16,}"),
]


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


def dags(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield document["root"]["dag"]
    yield from (item["dag"] for item in document["components"].values() if "dag" in item)


def leaves(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the tasks that run a container, by the name of their place."""
    return {
        task["taskInfo"]["name"]: task | {"executor": label}
        for dag in dags(document)
        for task in dag["tasks"].values()
        if (label := document["components"][task["componentRef"]["name"]].get("executorLabel"))
    }


def graph_of(document: dict[str, Any]) -> dict[str, dict[str, str]]:
    """Return task name -> input -> name of the task that makes it."""
    tasks = inside(document, "prepare")
    by_task = {task: body["taskInfo"]["name"].removesuffix(" round") for task, body in tasks.items()}
    return {
        name: {
            key: by_task[source["taskOutputArtifact"]["producerTask"]]
            for key, source in tasks[task]["inputs"].get("artifacts", {}).items()
        }
        for task, name in by_task.items()
    }


def inside(document: dict[str, Any], name: str) -> dict[str, Any]:
    """Return the tasks of the graph that holds a place."""
    return next(
        dag["tasks"] for dag in dags(document) if any(t["taskInfo"]["name"] == name for t in dag["tasks"].values())
    )


def test_golden(text: str):
    assert text == GOLDEN.read_text(encoding="utf-8"), "the compiled pipeline changed; if that is wanted: make golden"


def test_the_graph_is_that_of_the_nodes(text: str):
    graph = graph_of(next(yaml.safe_load_all(text)))
    assert graph.pop("configure") == {}
    assert graph == {node.name: dict(node.inputs) for node in SSKD}


def test_every_stage_reads_the_experiment_that_was_checked(text: str):
    tasks = inside(next(yaml.safe_load_all(text)), "prepare")
    for name, task in tasks.items():
        if name != "configure":
            assert task["inputs"]["parameters"]["experiment"] == {
                "taskOutputParameter": {"outputParameterKey": "resolved", "producerTask": "configure"}
            }, name


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


def test_the_report_comes_last_whatever_became_of_the_rest(text: str):
    root = next(yaml.safe_load_all(text))["root"]["dag"]["tasks"]
    report = root["report"]
    assert set(root) == {"exit-handler-1", "report"}
    assert report["triggerPolicy"] == {"strategy": "ALL_UPSTREAM_TASKS_COMPLETED"}
    assert report["inputs"]["parameters"]["status"] == {"taskFinalStatus": {"producerTask": "exit-handler-1"}}
    assert "artifacts" not in report["inputs"]


def test_the_form_is_typed_and_described(text: str):
    form = next(yaml.safe_load_all(text))["root"]["inputDefinitions"]["parameters"]
    kinds = {str: "STRING", int: "NUMBER_INTEGER", float: "NUMBER_DOUBLE", list: "LIST", dict: "STRUCT"}
    assert set(form) == {item.name for item in PARAMETERS}
    for item in PARAMETERS:
        field = form[item.name]
        assert field["parameterType"] == kinds[item.type]
        assert field["description"] == item.meaning
        if item.default is None:
            assert "defaultValue" not in field
        else:
            assert field["defaultValue"] == item.type(item.default)


def test_the_form_can_be_filled_in_beforehand(tmp_path: Path):
    document = next(
        yaml.safe_load_all(compiled(tmp_path / "p.yaml", distill_iterations=7, storage_root="s3://bucket/x"))
    )
    form = document["root"]["inputDefinitions"]["parameters"]
    assert form["distill_iterations"]["defaultValue"] == 7
    assert form["storage_root"]["defaultValue"] == "s3://bucket/x"


def test_every_executor_has_all_that_a_cluster_must_know(released: list[dict[str, Any]]):
    document, platform = released
    kubernetes = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    tasks = leaves(document)
    assert set(tasks) == {"configure", "report", *(n.name for n in SSKD), *(f"{name} worker" for name in FAN_OUT)}
    executors = document["deploymentSpec"]["executors"]
    assert {task["executor"] for task in tasks.values()} == set(executors) == set(kubernetes)
    for name, task in tasks.items():
        container, pod = executors[task["executor"]]["container"], kubernetes[task["executor"]]
        resources = container["resources"]
        assert container["image"] == (IMAGE if "accelerator" in resources else CPU_IMAGE), name
        assert container["command"][:3] == ["python3", "-m", "components.execute"]
        for limit in ("resourceCpuLimit", "resourceCpuRequest", "resourceMemoryLimit", "resourceMemoryRequest"):
            assert resources[limit], (name, limit)
        assert pod["securityContext"] == {"runAsNonRoot": True, "runAsUser": "12345", "runAsGroup": "23456"}, name
        assert int(pod["activeDeadlineSeconds"]) > 0, name
        retry = task["retryPolicy"]
        assert retry["maxRetryCount"] >= 1, name
        assert (retry["backoffDuration"], retry["backoffFactor"]) == ("30s", 2.0), name
        mounts = {item["mountPath"]: item for item in pod["emptyDirMounts"]}
        assert mounts["/dev/shm"]["medium"] == "Memory"
        assert mounts["/dev/shm"]["sizeLimit"]
        assert "medium" not in mounts["/tmp"]
        assert [item["secretName"] for item in pod["secretAsEnv"]] == ["sskd-s3"]
        assert [item["configMapName"] for item in pod["configMapAsEnv"]] == ["team"]
        assert pod["imagePullPolicy"] == "IfNotPresent"
        assert [item["secretName"] for item in pod["imagePullSecret"]] == ["registry"]


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


def test_kfp_s_cache_is_on_for_digests_alone(released: list[dict[str, Any]], text: str):
    cached = {name for name, task in leaves(released[0]).items() if task["cachingOptions"].get("enableCache")}
    assert {"configure", "report", "register"} & cached == set()
    assert cached == set(leaves(released[0])) - {"configure", "report", "register"}
    assert not any(t["cachingOptions"].get("enableCache") for t in leaves(next(yaml.safe_load_all(text))).values())


def test_no_secret_is_in_it_and_no_artifact_but_pointers_and_pages(text: str):
    for shape in SECRET_SHAPES:
        assert shape.search(text) is None
    document = next(yaml.safe_load_all(text))
    kinds = {
        artifact["artifactType"]["schemaTitle"]
        for component in document["components"].values()
        for artifact in component.get("outputDefinitions", {}).get("artifacts", {}).values()
    }
    assert kinds == {"system.Artifact", "system.Metrics", "system.HTML", "system.Markdown"}
