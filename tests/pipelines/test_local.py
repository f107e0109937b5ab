"""The object that compiles for a cluster is the one that runs here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from google.protobuf import json_format
from kfp import compiler, local

from pipelines.cluster import ClusterConfig
from pipelines.local import _stop_at_first_failure, reported
from pipelines.methods import BUILDERS
from sskd_core.config.assemble import fill_in
from sskd_core.config.graph import GRAPHS, Method
from sskd_core.stages.entry import SHARED_VARIABLE
from sskd_core.storage.store import ObjectStore
from tests.micro import micro_data, micro_experiment


def without_retries(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_retries(item) for key, item in value.items() if key != "retryPolicy"}
    return [without_retries(item) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize("build", BUILDERS.values(), ids=BUILDERS)
def test_here_it_is_the_compiled_pipeline_but_for_the_retries(build: Callable[..., Any], tmp_path: Path):
    pipeline = build(ClusterConfig())
    target = tmp_path / "sskd.yaml"
    compiler.Compiler().compile(pipeline, str(target))
    compiled = next(yaml.safe_load_all(target.read_text(encoding="utf-8")))
    _stop_at_first_failure(pipeline.pipeline_spec)
    here = json_format.MessageToDict(pipeline.pipeline_spec)
    assert "retryPolicy" not in str(here)
    assert "retryPolicy" in str(compiled)
    for section in ("components", "root", "deploymentSpec"):
        assert without_retries(compiled)[section] == here[section]


WHERE_IT_RUNS = {"image", "resources", "env", "retryPolicy", "cachingOptions"}


def what_it_does(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: what_it_does(item) for key, item in value.items() if key not in WHERE_IT_RUNS}
    return [what_it_does(item) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize("method", BUILDERS)
def test_a_cluster_decides_where_a_task_runs_and_not_what_it_does(method: Method, tmp_path: Path):
    """Command, arguments, inputs and form are those of the pipeline that runs here, whatever a platform chooses."""
    elsewhere = ClusterConfig(
        image="registry.example/sskd@sha256:" + "0" * 64,
        cpu_image="registry.example/sskd-cpu@sha256:" + "1" * 64,
        secrets={},
        labels={"team": "vision"},
        cache={"claim": "images"},  # type: ignore[arg-type]
        nodes={"distill": {"gpus": 8, "retries": 9}},
    )
    documents = []
    for name, cluster in (("here", ClusterConfig(secrets={})), ("elsewhere", elsewhere)):
        compiler.Compiler().compile(BUILDERS[method](cluster), str(tmp_path / f"{name}.yaml"))
        documents.append(next(yaml.safe_load_all((tmp_path / f"{name}.yaml").read_text(encoding="utf-8"))))
    here, there = documents
    assert here != there
    assert what_it_does(here) == what_it_does(there)
    commands = {tuple(item["container"]["args"][:2]) for item in there["deploymentSpec"]["executors"].values()}
    stages = {node.name for node in GRAPHS[method] if not node.fan_out}
    labelling = {"pseudo_label", "collect_labels"} if method == "sskd" else set()
    assert {command[1] for command in commands} == {"configure", "report"} | stages | labelling


def test_a_form_that_is_refused_ends_in_a_page_that_says_so(
    store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv(SHARED_VARIABLE, "1")
    form = fill_in(micro_experiment(store.config, micro_data(store))) | {"refine_iterations": -1}
    pipeline = BUILDERS["sskd"](ClusterConfig())
    _stop_at_first_failure(pipeline.pipeline_spec)
    local.init(local.SubprocessRunner(use_venv=False), pipeline_root=str(tmp_path / "kfp"), raise_on_error=True)
    with pytest.raises(RuntimeError, match="configure"):
        pipeline(**form)
    (summary,) = tmp_path.glob("kfp/*/report/summary")
    assert summary.read_text().startswith("# Run failed\n")
    assert list(tmp_path.glob("kfp/*/report/page")) != []
    assert reported(tmp_path / "kfp") is None
    begun = {path.name for path in tmp_path.glob("kfp/*/*")}
    assert begun <= {"configure", "report"}  # and no stage
    assert list(store.list(f"{store.root}/stages")) == []


def test_what_a_run_left_is_found(tmp_path: Path):
    assert reported(tmp_path) is None
    (tmp_path / "sskd-1" / "report").mkdir(parents=True)
    (tmp_path / "sskd-1" / "report" / "manifest").write_text("{}")
    assert reported(tmp_path) == tmp_path / "sskd-1" / "report" / "manifest"
