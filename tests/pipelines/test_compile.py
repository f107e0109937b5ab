"""What the compiled files of all pipelines have in common, beside being those under `golden/`.

After a wanted change: `make golden`, and read the difference before committing it.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines.cluster import ClusterConfig
from pipelines.compile import compile_pipeline
from pipelines.methods import BUILDERS
from sskd_core.config.graph import GRAPHS, Method, training_nodes
from sskd_core.config.parameters import FORMS
from tests.compiled_pipeline import inside, leaves

GOLDEN = Path(__file__).parent / "golden"
DIGEST = "sha256:" + "0" * 64
IMAGE = f"registry.example/sskd@{DIGEST}"
CPU_IMAGE = f"registry.example/sskd-cpu@{DIGEST}"
ENDS = {"configure", "report"}
NEVER_CACHED = {*ENDS, "register"}
CONTAINER = {"args", "command", "env", "image", "resources"}
SECRET_SHAPES = [
    re.compile(r"AKIA[0-9A-Z]{16}"),
    re.compile(r"-----BEGIN"),
    re.compile(r"eyJ[A-Za-z0-9_-]{10,}\."),
    re.compile(r"://[^/\s'\"]+@"),
    re.compile(r"(?i)(password|token|secret_?key)['\"]?\s*[:=]\s*['\"]?[A-Za-z0-9+/]{16,}"),
]
KINDS = {str: "STRING", int: "NUMBER_INTEGER", float: "NUMBER_DOUBLE", list: "LIST", dict: "STRUCT"}


@pytest.fixture(scope="module", params=BUILDERS)
def method(request: pytest.FixtureRequest) -> Method:
    """Each method in turn."""
    return request.param  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def text(method: Method, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A pipeline as the golden file has it."""
    target = tmp_path_factory.mktemp("compiled") / "new" / f"{method}.yaml"
    compile_pipeline(target, ClusterConfig(), method=method)
    return target.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def document(text: str) -> dict[str, Any]:
    return next(yaml.safe_load_all(text))  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def released(method: Method, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """The pipeline's and the platform's document of a release."""
    cluster = ClusterConfig(
        image=IMAGE,
        cpu_image=CPU_IMAGE,
        gpu_type="amd.com/gpu",
        run_as_user=12345,
        run_as_group=23456,
        config_maps={"team": {"endpoint": "MLFLOW_TRACKING_URI"}},
        pull_secrets=["registry"],
    )
    target = tmp_path_factory.mktemp("released") / f"{method}.yaml"
    compile_pipeline(target, cluster, method=method)
    return list(yaml.safe_load_all(target.read_text(encoding="utf-8")))


def test_golden(method: Method, text: str):
    golden = (GOLDEN / f"{method}.yaml").read_text(encoding="utf-8")
    assert text == golden, "the compiled pipeline changed; if that is wanted: make golden"


def test_every_method_has_a_pipeline_and_a_golden_file():
    assert set(BUILDERS) == set(GRAPHS) == set(FORMS) == {path.stem for path in GOLDEN.glob("*.yaml")}


def test_every_executor_has_all_that_a_cluster_must_know(method: Method, released: list[dict[str, Any]]):
    document, platform = released
    kubernetes = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    executors = document["deploymentSpec"]["executors"]
    tasks = leaves(document)
    nodes = GRAPHS[method]
    assert set(tasks) == ENDS | {n.name for n in nodes} | {f"{n.name} worker" for n in nodes if n.fan_out}
    assert {task["executor"] for task in tasks.values()} == set(executors) == set(kubernetes)
    for name, task in tasks.items():
        container, pod = executors[task["executor"]]["container"], kubernetes[task["executor"]]
        assert set(container) <= CONTAINER, name
        resources = container["resources"]
        assert container["image"] == (IMAGE if "accelerator" in resources else CPU_IMAGE), name
        assert container["command"] == ["python3", "-m", "components.execute", "kfp.dsl.executor_main"], name
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


def test_what_trains_or_labels_has_the_gpu_that_the_platform_names(method: Method, released: list[dict[str, Any]]):
    document, platform = released
    kubernetes = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    on_gpus = set()
    for name, task in leaves(document).items():
        container = document["deploymentSpec"]["executors"][task["executor"]]["container"]
        accelerator = container["resources"].get("accelerator")
        assert bool(kubernetes[task["executor"]].get("tolerations")) == bool(accelerator), name
        assert container.get("env", []) == ([{"name": "SSKD_GPUS", "value": "1"}] if accelerator else []), name
        if accelerator:
            on_gpus.add(name)
            assert (accelerator["resourceType"], accelerator["resourceCount"]) == ("amd.com/gpu", "1"), name
    labelling = {f"{node.name} worker" for node in GRAPHS[method] if node.fan_out}
    assert on_gpus == {*training_nodes(method), "evaluate", *labelling}


def test_every_stage_reads_the_experiment_that_was_checked(document: dict[str, Any]):
    for name, task in inside(document, "prepare").items():
        if name != "configure":
            assert task["inputs"]["parameters"]["experiment"] == {
                "taskOutputParameter": {"outputParameterKey": "resolved", "producerTask": "configure"}
            }, name


def test_the_report_comes_last_whatever_became_of_the_rest(document: dict[str, Any]):
    root = document["root"]["dag"]["tasks"]
    report = root["report"]
    assert set(root) == {"exit-handler-1", "report"}
    assert report["triggerPolicy"] == {"strategy": "ALL_UPSTREAM_TASKS_COMPLETED"}
    assert report["inputs"]["parameters"]["status"] == {"taskFinalStatus": {"producerTask": "exit-handler-1"}}
    assert "artifacts" not in report["inputs"]


def test_the_form_is_typed_and_described(method: Method, document: dict[str, Any]):
    form = document["root"]["inputDefinitions"]["parameters"]
    assert set(form) == {item.name for item in FORMS[method]}
    for item in FORMS[method]:
        field = form[item.name]
        assert field["parameterType"] == KINDS[item.type]
        assert field["description"] == item.meaning
        if item.default is None:
            assert "defaultValue" not in field
        else:
            assert field["defaultValue"] == item.type(item.default)


def test_kfp_s_cache_is_on_for_digests_alone(released: list[dict[str, Any]], document: dict[str, Any]):
    cached = {name for name, task in leaves(released[0]).items() if task["cachingOptions"].get("enableCache")}
    assert cached == set(leaves(released[0])) - NEVER_CACHED
    assert not any(task["cachingOptions"].get("enableCache") for task in leaves(document).values())


def test_no_secret_is_in_it(text: str, released: list[dict[str, Any]]):
    for shape in SECRET_SHAPES:
        assert shape.search(text) is None
        assert shape.search(str(released)) is None


def test_no_artifact_but_manifests_figures_and_pages(document: dict[str, Any]):
    kinds: dict[str, set[str]] = {}
    for name, component in document["components"].items():
        for key, artifact in component.get("outputDefinitions", {}).get("artifacts", {}).items():
            kinds.setdefault(artifact["artifactType"]["schemaTitle"], set()).add(key)
            if "executorLabel" in component:
                assert artifact["description"], (name, key)
    plain = {key for key in kinds.pop("system.Artifact") if not key.endswith("manifest")}
    assert plain <= {"Output"}  # of a labelling round, which hands its manifest on
    assert kinds == {"system.Metrics": {"metrics"}, "system.HTML": {"page"}, "system.Markdown": {"plan", "summary"}}
