"""The two ends of a pipeline as an orchestrator sees them: files and exit codes, and a report in any case."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sskd_core.config.assemble import fill_in
from sskd_core.config.experiment import ExperimentConfig
from sskd_core.stages.component import STOP_VARIABLE
from sskd_core.stages.ends import run_configure, run_report
from sskd_core.stages.entry import run_node
from sskd_core.storage.manifest import Manifest
from sskd_core.storage.store import ObjectStore
from tests.micro import micro_data, micro_experiment

RUN = "run-1"


@pytest.fixture
def form(store: ObjectStore) -> dict[str, Any]:
    return fill_in(micro_experiment(store.config, micro_data(store)))


def configured(form: dict[str, Any], folder: Path) -> tuple[list[int], ExperimentConfig]:
    workers = run_configure(form, RUN, {}, str(folder / "a/resolved"), str(folder / "b/plan"))
    return workers, ExperimentConfig.model_validate_json((folder / "a/resolved").read_bytes())


def report(form: dict[str, Any], folder: Path, state: str = "SUCCEEDED", problem: str = "") -> tuple[str, str]:
    run_report(form, RUN, state, problem, str(folder / "m/manifest"), str(folder / "p/page"), str(folder / "s/md"))
    return (folder / "p/page").read_text(), (folder / "s/md").read_text()


def test_configure_hands_on_the_experiment_and_the_workers(form, tmp_path: Path):
    workers, experiment = configured(form, tmp_path)
    assert workers == [0, 1]
    assert experiment.data.sources_digest is not None
    plan = (tmp_path / "b/plan").read_text()
    assert plan.startswith("# micro\n")
    assert experiment.data.sources_digest in plan
    assert f"| unlabelled | `{experiment.data.unlabeled[0]}` |" in plan


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        (
            "refine_iterations",
            -1,
            "'refine_iterations' (stages.refine.iterations): input should be greater than or equal",
        ),
        ("score_threshold", 1.5, "'score_threshold' (stages.pseudo_label.score_threshold)"),
        ("label_workers", 1000, "'label_workers': input should be less than or equal to 100, got 1000"),
        ("teacher_family", "resnet", "'teacher_family' (teacher.family)"),
        ("name", "Not A Name", "'name': string should match pattern"),
        ("overrides", {"stages": {"destill": {}}}, "unknown key 'stages.destill'; did you mean 'distill'?"),
        ("experiment", "a: [", "the parameter 'experiment': not valid YAML"),
    ],
)
def test_a_wrong_field_is_one_line_and_nothing_is_written(
    field: str,
    value: object,
    message: str,
    form,
    store: ObjectStore,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
):
    with pytest.raises(SystemExit) as ended:
        configured(form | {field: value}, tmp_path)
    assert ended.value.code == 2
    assert message in capsys.readouterr().err.splitlines()[-1]
    assert list(tmp_path.rglob("resolved")) == []
    assert list(store.list(f"{store.root}/runs")) == []


def test_the_report_of_a_run_that_broke_off(form, store: ObjectStore, tmp_path: Path):
    _, experiment = configured(form, tmp_path)
    run_node(experiment, "prepare", {})
    page, summary = report(form, tmp_path, "FAILED", "adapt_teacher failed\nfor a reason")
    assert "adapt_teacher" in page
    assert summary.splitlines()[0] == "# micro: failed"
    assert "> adapt_teacher failed\n> for a reason\n" in summary
    assert "| adapt_teacher | not done | |" in summary
    assert "`s3://" in next(line for line in summary.splitlines() if line.startswith("| prepare |"))
    manifest = Manifest.model_validate_json((tmp_path / "m/manifest").read_bytes())
    assert list(manifest.inputs) == ["prepare"]
    assert store.read(manifest.output("report")).decode() == page


def test_the_report_of_a_run_that_never_began(form, tmp_path: Path):
    page, summary = report(form | {"refine_iterations": -1}, tmp_path, "FAILED", "<b>no</b>")
    assert "There is no result to report." in summary
    assert "&lt;b&gt;no&lt;/b&gt;" in page
    assert not (tmp_path / "m").exists()


def test_a_store_that_cannot_be_read_still_leaves_a_page(form, tmp_path: Path):
    with pytest.raises(SystemExit) as ended:
        report(form | {"storage_root": "not-a-uri"}, tmp_path, "FAILED", "first")
    assert ended.value.code == 2
    summary = (tmp_path / "s/md").read_text()
    assert "> first\n" in summary
    assert "'root'" in summary
    assert (tmp_path / "p/page").exists()


def test_a_run_that_was_told_to_stop_is_reported(form, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    configured(form, tmp_path)
    monkeypatch.setenv(STOP_VARIABLE, "1")
    _, summary = report(form, tmp_path, "FAILED")
    assert "| prepare | not done | |" in summary


def test_what_kfp_makes_of_numbers_is_undone(form, tmp_path: Path):
    overrides = json.loads(json.dumps({"stages": {"refine": {"val_every": 3.0}}, "threads": 1.0}))
    _, experiment = configured(form | {"overrides": overrides}, tmp_path)
    assert experiment.stages.refine.val_every == 3
    assert experiment.threads == 1
