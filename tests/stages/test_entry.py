"""`run_node` on a real data set in a real store."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from sskd_core.config.experiment import ExperimentConfig
from sskd_core.config.graph import GUIDED, SSKD
from sskd_core.config.tracking import TrackingConfig
from sskd_core.errors import ConfigError, DataError, IntegrityError, Interrupted, StorageError, UserError
from sskd_core.progress import DIRECTORY_VARIABLE
from sskd_core.stages import entry, prepare
from sskd_core.stages.entry import pipeline_key, run_node
from sskd_core.stages.registry import REPORT, find_node, implementation
from sskd_core.storage.store import ObjectStore
from sskd_core.tracking.client import connect
from tests.micro import micro_data, micro_experiment


@pytest.fixture
def experiment(store: ObjectStore) -> ExperimentConfig:
    return micro_experiment(store.config, micro_data(store))


@pytest.fixture
def records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Return what a node told of itself."""
    monkeypatch.setenv(DIRECTORY_VARIABLE, str(tmp_path / "progress"))

    def read(node: str) -> list[dict]:
        lines = (tmp_path / "progress" / f"{node}.jsonl").read_text().splitlines()
        return [json.loads(line) for line in lines]

    return read


def test_a_node_runs_once(experiment: ExperimentConfig, records):
    first = run_node(experiment, "prepare", {})
    again = run_node(experiment, "prepare", {})
    assert first == again
    endings = [record["status"] for record in records("prepare") if record["kind"] == "end"]
    assert endings == ["done", "cached"]


def test_who_waited_for_a_twin_finds_its_result(experiment: ExperimentConfig, records, monkeypatch):
    names, results = [], []

    @contextmanager
    def busy(folder, name, progress):
        names.append((folder, name))
        if len(names) == 1:  # the twin has the lock first
            results.append(run_node(experiment, "prepare", {}))
        yield

    monkeypatch.setattr(entry, "alone", busy)
    assert run_node(experiment, "prepare", {}) == results[0]
    assert names[0] == names[1]
    assert names[0][0] == experiment.storage.cache_dir
    endings = [record["status"] for record in records("prepare") if record["kind"] == "end"]
    assert endings == ["done", "cached"]


@pytest.mark.parametrize(
    ("node", "worker", "values", "expected"),
    [
        ("train_supervised", None, {"side_by_side": 2}, 4),
        ("self_train_teacher", None, {"side_by_side": 2}, None),
        ("train_supervised", None, {}, None),
        ("distill", None, {"side_by_side": 2}, 4),
        ("refine", None, {"side_by_side": 2}, None),
        # The method has no baseline that could train beside it.
        ("distill", None, {"side_by_side": 2, "method": "guided"}, None),
        ("relabel", 0, {"label_workers": 4, "side_by_side": 2}, 2),
        ("relabel", 0, {"label_workers": 1}, None),
        ("train_supervised", None, {"side_by_side": 2, "threads": 3}, 3),
    ],
)
def test_processes_side_by_side_share_the_cores(experiment, monkeypatch, node, worker, values, expected):
    experiment = experiment.model_copy(update={"threads": None, "label_workers": 2, "side_by_side": 1, **values})
    place = find_node(node, experiment.method)
    job = SimpleNamespace(experiment=experiment, worker=worker, node=place, is_shared=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.delenv(entry.SHARED_VARIABLE, raising=False)
    assert entry._threads(job) == values.get("threads")
    monkeypatch.setenv(entry.SHARED_VARIABLE, "1")
    assert entry._threads(job) == expected


def test_the_processes_of_one_training_divide_its_threads(experiment, monkeypatch):
    node = find_node("distill", experiment.method)
    job = SimpleNamespace(experiment=experiment.model_copy(update={"threads": 6}), worker=None, node=node)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    threads = [entry._threads(SimpleNamespace(**vars(job), is_shared=shared)) for shared in (True, False)]
    assert threads == [3, 6]


def test_a_node_done_before_imports_nothing_heavy(experiment: ExperimentConfig, tmp_path: Path):
    run_node(experiment, "prepare", {})
    saved = tmp_path / "experiment.json"
    saved.write_text(experiment.model_dump_json())
    code = (
        "import sys; from pathlib import Path\n"
        "from sskd_core.config.experiment import ExperimentConfig\n"
        "from sskd_core.stages.entry import run_node\n"
        f"e = ExperimentConfig.model_validate_json(Path({str(saved)!r}).read_text())\n"
        "run_node(e, 'prepare', {})\n"
        "print('HEAVY', sorted({'torch', 'mlflow', 'kfp', 'transformers', 'pyarrow'} & set(sys.modules)))"
    )
    assert "HEAVY []" in subprocess.check_output([sys.executable, "-c", code], text=True)


def test_inputs_are_checked(experiment: ExperimentConfig):
    data = run_node(experiment, "prepare", {})
    with pytest.raises(ConfigError, match=r"'distill' needs the input 'labels': the manifest of 'relabel'"):
        run_node(experiment, "distill", {"data": data})
    with pytest.raises(ConfigError, match=r"'prepare' has no input 'data'; its inputs are: none"):
        run_node(experiment, "prepare", {"data": data})
    with pytest.raises(IntegrityError, match=r"wants as 'labels' a manifest of stage 'pseudo_label'"):
        run_node(experiment, "distill", {"data": data, "labels": data})
    with pytest.raises(ConfigError, match="no stage 'distil'"):
        run_node(experiment, "distil", {})


def test_workers_are_checked(experiment: ExperimentConfig):
    with pytest.raises(ConfigError, match="'prepare' has no workers"):
        run_node(experiment, "prepare", {}, worker=0)
    with pytest.raises(ConfigError, match="no worker 2: label_workers is 2"):
        run_node(experiment, "pseudo_label", {}, worker=2)


def test_a_refusal_is_told_with_every_problem(experiment: ExperimentConfig, store: ObjectStore, records):
    images = experiment.data.labeled.images
    for name in ("000000.jpg", "000001.jpg"):
        store.put(f"{images}/{name}", b"not an image")
    with pytest.raises(DataError) as caught:
        run_node(experiment, "prepare", {})
    last = records("prepare")[-1]
    assert (last["kind"], last["status"]) == ("end", "refused")
    assert last["problems"] == caught.value.problems
    assert len(last["problems"]) == 2
    assert not list(store.list(f"{store.root}/stages"))


def test_a_defect_is_told_as_one(experiment: ExperimentConfig, records, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(prepare, "run", lambda *_: {}["key"])
    with pytest.raises(KeyError):
        run_node(experiment, "prepare", {})
    assert records("prepare")[-1]["status"] == "failed"
    assert "KeyError" in records("prepare")[-1]["detail"]


def test_an_unreachable_store_is_told_before_anything_runs(experiment: ExperimentConfig, records):
    away = experiment.storage.model_copy(update={"endpoint_url": "http://127.0.0.1:9"})
    with pytest.raises(StorageError):
        run_node(experiment.model_copy(update={"storage": away}), "prepare", {})
    assert records("prepare")[-1]["status"] == "refused"


def test_sigterm_interrupts_a_stage_that_does_not_look(
    experiment: ExperimentConfig, store: ObjectStore, records, monkeypatch: pytest.MonkeyPatch
):
    earlier = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(prepare, "run", lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(Interrupted) as caught:
        run_node(experiment, "prepare", {})
    assert caught.value.exit_code == 143
    assert records("prepare")[-1]["status"] == "interrupted"
    assert signal.getsignal(signal.SIGTERM) == earlier
    assert not list(store.list(f"{store.root}/stages"))


def test_the_pipeline_key_follows_results_and_nothing_else(experiment: ExperimentConfig):
    def changed(**values: object) -> str:
        return pipeline_key(experiment.model_copy(update=values))

    key = pipeline_key(experiment)
    moved = experiment.storage.model_copy(update={"endpoint_url": "http://127.0.0.1:1"})
    tracked = experiment.tracking.model_copy(update={"uri": "sqlite:///elsewhere.db"})
    assert changed(storage=moved) == changed(tracking=tracked) == changed(threads=7, label_workers=5) == key
    assert len({key, changed(name="other"), changed(seed=1)}) == 3


def test_a_tracked_stage_says_what_it_does(experiment: ExperimentConfig, tracking: TrackingConfig):
    tracked = experiment.model_copy(update={"tracking": tracking})
    manifest = run_node(tracked, "prepare", {})
    client = connect(tracking, experiment.storage)
    run = client.get_run(manifest.run_id)
    assert (run.info.run_name, run.info.status) == ("prepare", "FINISHED")
    assert run.data.params["data.licence"] == str(experiment.data.licence)
    assert run.data.metrics == manifest.metrics
    assert run.data.tags["sskd.manifest.digest"] == manifest.digest
    assert run.data.tags["sskd.seed"] == str(experiment.seed)
    inputs = {item.dataset.name for item in run.inputs.dataset_inputs}
    assert inputs == {"data.labeled", "data.unlabeled", "data.val", "data.test"}
    parent = client.get_run(run.data.tags["mlflow.parentRunId"])
    assert parent.data.tags["sskd.pipeline"] == pipeline_key(tracked)
    assert parent.data.tags["stage.prepare.manifest"] == manifest.uri


def test_a_stage_that_fails_says_so_in_its_run(
    experiment: ExperimentConfig, tracking: TrackingConfig, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(prepare, "run", lambda *_: {}["key"])
    with pytest.raises(KeyError):
        run_node(experiment.model_copy(update={"tracking": tracking}), "prepare", {})
    client = connect(tracking, experiment.storage)
    runs = client.search_runs([client.get_experiment_by_name(tracking.experiment).experiment_id])
    assert [run.info.status for run in runs] == ["FAILED", "FAILED"]


def test_tracking_that_does_not_answer_is_told_before_anything_runs(
    experiment: ExperimentConfig, store: ObjectStore, records
):
    away = TrackingConfig(mode="own", uri="carrier-pigeon://roof")
    with pytest.raises(UserError, match="MLflow at carrier-pigeon://roof does not answer"):
        run_node(experiment.model_copy(update={"tracking": away}), "prepare", {})
    assert records("prepare")[-1]["status"] == "refused"
    assert not list(store.list(f"{store.root}/stages"))


def test_every_node_has_its_code():
    for node in (*SSKD, *GUIDED, find_node(REPORT, "sskd")):
        code = implementation(node.stage, worker=False)
        assert callable(getattr(code.load(), code.function)), node
    worker = implementation("pseudo_label", worker=True)
    assert callable(getattr(worker.load(), worker.function))
