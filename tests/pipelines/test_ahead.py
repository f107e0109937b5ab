"""The baseline beside the chain: the same result through the same entry, in a process that does not outlive the run."""

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
from sskd_core.stages.entry import find_result, run_node
from sskd_core.storage.store import ObjectStore
from tests.micro import micro_data, micro_experiment


@pytest.fixture
def experiment(store: ObjectStore) -> ExperimentConfig:
    return micro_experiment(store.config, micro_data(store))


def test_the_pipeline_s_task_finds_what_the_branch_did(experiment, tmp_path: Path, monkeypatch):
    monkeypatch.setenv(DIRECTORY_VARIABLE, str(tmp_path))
    assert find_result(experiment, "prepare", {}) is None
    prepared = run_node(experiment, "prepare", {})
    assert find_result(experiment, "prepare", {}) == prepared
    ahead = run_baseline(experiment)
    assert ahead == run_node(experiment, BASELINE, {"data": prepared})

    def endings(node: str) -> list[str]:
        records = [json.loads(line) for line in (tmp_path / f"{node}.jsonl").read_text().splitlines()]
        return [record["status"] for record in records if record["kind"] == "end"]

    assert endings(BASELINE) == ["done", "cached"]
    assert endings("prepare") == ["done"]  # the branch takes it and says nothing


def test_the_branch_waits_for_what_it_needs(experiment, monkeypatch):
    rests: list[float] = []

    def rest(seconds: float) -> None:
        rests.append(seconds)
        if len(rests) == 2:
            run_node(experiment, "prepare", {})

    monkeypatch.setattr("pipelines.ahead.time.sleep", rest)
    monkeypatch.setattr("pipelines.ahead.run_node", lambda _, name, inputs: (name, inputs))
    assert run_baseline(experiment) == (BASELINE, {"data": find_result(experiment, "prepare", {})})
    assert len(rests) == 2


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
