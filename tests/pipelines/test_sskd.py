"""The pipeline is the graph that the configuration declares, and compiles to the YAML under `golden/`.

After a wanted change: `make golden`, and read the difference before committing it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from sskd_core.config.experiment import NODES
from sskd_core.stages.registry import REPORT

GOLDEN = Path(__file__).parent / "golden" / "sskd.yaml"


def compiled(target: Path, **environment: str) -> str:
    """Compile as the command does, in a process of its own."""
    clean = {key: value for key, value in os.environ.items() if key != "SSKD_IMAGE"}
    subprocess.run([sys.executable, "-m", "pipelines", "compile", str(target)], env=clean | environment, check=True)
    return target.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> str:
    return compiled(tmp_path_factory.mktemp("compiled") / "new" / "sskd.yaml")


@pytest.fixture(scope="module")
def tasks(text: str) -> dict[str, Any]:
    return next(yaml.safe_load_all(text))["root"]["dag"]["tasks"]


def test_golden(text: str):
    assert text == GOLDEN.read_text(encoding="utf-8"), "the compiled pipeline changed; if that is wanted: make golden"


def test_the_graph_is_that_of_the_nodes(tasks: dict[str, Any]):
    by_task = {task: body["taskInfo"]["name"] for task, body in tasks.items()}
    loops = {name for name in by_task.values() if name.endswith("-workers")}
    graph = {
        name: {
            key: by_task[source["taskOutputArtifact"]["producerTask"]]
            for key, source in tasks[task]["inputs"].get("artifacts", {}).items()
        }
        for task, name in by_task.items()
        if name not in loops
    }
    waits = {name: f"{name}-workers" for name in loops for name in [name.removesuffix("-workers")]}
    expected = {node.name: dict(node.inputs) for node in (*NODES, REPORT)}
    for node, loop in waits.items():
        expected[node]["workers"] = loop
    assert graph == expected
    assert set(waits) == {node.name for node in NODES if node.fan_out}


def test_workers_read_what_their_node_reads(tasks: dict[str, Any], text: str):
    components = next(yaml.safe_load_all(text))["components"]
    for node in (node for node in NODES if node.fan_out):
        loop = next(body for body in tasks.values() if body["taskInfo"]["name"] == f"{node.name}-workers")
        inner = components[loop["componentRef"]["name"]]["dag"]["tasks"]
        (worker,) = inner.values()
        assert set(worker["inputs"]["artifacts"]) == set(node.inputs)
        assert worker["inputs"]["parameters"]["node"]["runtimeValue"]["constant"] == node.name


def test_kfp_s_own_cache_is_off(text: str):
    document = next(yaml.safe_load_all(text))
    dags = [document["root"]["dag"], *(item["dag"] for item in document["components"].values() if "dag" in item)]
    leaves = [
        task
        for dag in dags
        for task in dag["tasks"].values()
        if "executorLabel" in document["components"][task["componentRef"]["name"]]
    ]
    assert len(leaves) == len(NODES) + 1 + sum(node.fan_out for node in NODES)
    assert all(not task.get("cachingOptions", {}).get("enableCache") for task in leaves)


def test_every_task_runs_in_the_image_that_was_asked_for_and_installs_nothing(tmp_path: Path):
    image = "registry.example/sskd@sha256:" + "0" * 64
    document = next(yaml.safe_load_all(compiled(tmp_path / "sskd.yaml", SSKD_IMAGE=image)))
    containers = [item["container"] for item in document["deploymentSpec"]["executors"].values()]
    assert {container["image"] for container in containers} == {image}
    assert not any("pip" in " ".join(container["command"]) for container in containers)
