"""The baseline beside the longest training: the same result, from a process that does not outlive the run."""

from __future__ import annotations

import json
from pathlib import Path

import psutil
import pytest
from kfp.local import graph_utils

from pipelines import local
from pipelines.ahead import baseline_beside, run_baseline
from pipelines.cluster import ClusterConfig
from pipelines.sskd import build
from sskd_core.config.experiment import ExperimentConfig
from sskd_core.config.graph import BASELINE
from sskd_core.progress import DIRECTORY_VARIABLE
from sskd_core.stages.entry import run_node
from sskd_core.storage.manifest import Manifest
from sskd_core.storage.store import ObjectStore
from tests.micro import micro_data, micro_experiment


@pytest.fixture
def experiment(store: ObjectStore) -> ExperimentConfig:
    return micro_experiment(store.config, micro_data(store))


def test_the_branch_waits_for_the_chain_and_the_pipeline_s_task_finds_what_it_did(experiment, tmp_path, monkeypatch):
    monkeypatch.setenv(DIRECTORY_VARIABLE, str(tmp_path))
    chain: dict[str, Manifest] = {}
    names = iter(("prepare", "adapt_teacher", "pseudo_label", "self_train_teacher", "relabel"))

    def rest(seconds: float) -> None:
        name = next(names)
        inputs = {key: chain[source] for key, source in experiment.node(name).inputs.items()}
        for worker in range(experiment.label_workers if experiment.node(name).fan_out else 0):
            run_node(experiment, name, inputs, worker)
        chain[name] = run_node(experiment, name, inputs)

    def endings(node: str) -> list[str]:
        records = [json.loads(line) for line in (tmp_path / f"{node}.jsonl").read_text().splitlines()]
        return [record["status"] for record in records if record["kind"] == "end"]

    monkeypatch.setattr("pipelines.ahead.time.sleep", rest)
    ahead = run_baseline(experiment)
    assert list(chain)[-1] == "relabel"
    assert ahead == run_node(experiment, BASELINE, {"data": chain["prepare"]})
    assert endings(BASELINE) == ["done", "cached"]
    assert endings("prepare") == ["done"]  # the branch takes it and says nothing


def test_a_run_that_breaks_off_takes_the_branch_with_it(experiment, tmp_path: Path):
    with baseline_beside(experiment.model_copy(update={"side_by_side": 2}), tmp_path):
        (child,) = [item for item in psutil.Process().children() if "ahead" in item.cmdline()]
    assert not psutil.pid_exists(child.pid)


def test_one_training_at_a_time_starts_nothing(experiment, tmp_path: Path):
    with baseline_beside(experiment.model_copy(update={"side_by_side": 1}), tmp_path):
        assert not [item for item in psutil.Process().children() if "ahead" in item.cmdline()]
    assert list(tmp_path.iterdir()) == []


def test_the_runner_asks_for_the_branch_when_the_chain_is_done():
    spec = build(ClusterConfig()).pipeline_spec
    local._ask_last_for(BASELINE, spec)
    (graph,) = [dag for dag in local._dags(spec) if "train-supervised" in dag.tasks]
    order = graph_utils.topological_sort_tasks(graph.tasks)[::-1]  # kfp takes them from the end
    assert order.index("refine") < order.index("train-supervised") < order.index("evaluate")
