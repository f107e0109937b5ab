"""What an orchestrator sees of a stage: files, and exit codes."""

from __future__ import annotations

from pathlib import Path

import pytest

from sskd_core.errors import DataError, Interrupted, UserError
from sskd_core.stages import component
from sskd_core.stages.component import GPU_VARIABLE, STOP_VARIABLE, require_gpus, run_component
from sskd_core.stages.entry import SHARED_VARIABLE
from sskd_core.storage.manifest import Manifest
from sskd_core.storage.store import ObjectStore
from tests.micro import micro_data, micro_experiment


@pytest.fixture
def experiment(store: ObjectStore) -> str:
    return micro_experiment(store.config, micro_data(store)).model_dump_json()


def test_manifests_go_from_file_to_file(experiment: str, store: ObjectStore, tmp_path: Path):
    target = tmp_path / "new" / "manifest"
    metrics = run_component("prepare", experiment, {}, str(target))
    manifest = Manifest.model_validate_json(target.read_bytes())
    assert manifest.stage == "prepare"
    assert metrics == manifest.metrics
    assert store.manifest(manifest.uri) == manifest


@pytest.mark.parametrize(
    ("error", "code", "lines"),
    [
        (UserError("no such bucket"), 2, ["no such bucket"]),
        (DataError(["a.jpg: truncated", "b.jpg: truncated"]), 2, ["a.jpg: truncated", "b.jpg: truncated"]),
        (Interrupted("stopped"), 143, ["stopped"]),
    ],
)
def test_errors_become_exit_codes(
    experiment: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: Exception,
    code: int,
    lines: list[str],
):
    def fail(*arguments: object) -> None:
        raise error

    monkeypatch.setattr(component, "run_node", fail)
    with pytest.raises(SystemExit) as ended:
        run_component("prepare", experiment, {}, str(tmp_path / "manifest"))
    assert ended.value.code == code
    assert capsys.readouterr().err.splitlines()[-len(lines) :] == lines
    assert not (tmp_path / "manifest").exists()


def test_a_defect_stays_one(experiment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(component, "run_node", lambda *_: {}["key"])
    with pytest.raises(KeyError):
        run_component("prepare", experiment, {}, str(tmp_path / "manifest"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "'experiment' is not JSON"),
        ("[]", "'experiment' is not a JSON object"),
        ('{"name": "x", "dat": {}}', "unknown key 'dat'; did you mean 'data'?"),
    ],
)
def test_a_wrong_experiment_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, message: str):
    with pytest.raises(SystemExit) as ended:
        run_component("prepare", text, {}, str(tmp_path / "manifest"))
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_an_artifact_that_is_no_manifest_is_named(experiment: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "data").write_text("{}")
    with pytest.raises(SystemExit) as ended:
        run_component("adapt_teacher", experiment, {"data": str(tmp_path / "data")}, str(tmp_path / "manifest"))
    assert ended.value.code == 2
    assert "input 'data'" in capsys.readouterr().err


def test_a_task_that_begins_after_the_stop_does_nothing(
    experiment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv(STOP_VARIABLE, "1")
    monkeypatch.setattr(component, "run_node", lambda *_: pytest.fail("the stage began"))
    with pytest.raises(SystemExit) as ended:
        run_component("prepare", experiment, {}, str(tmp_path / "manifest"))
    assert ended.value.code == 143


def test_gpus_that_are_not_there_are_told_before_anything_begins(
    experiment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv(GPU_VARIABLE, "99")
    monkeypatch.setattr(component, "run_node", lambda *_: pytest.fail("the stage began"))
    with pytest.raises(SystemExit) as ended:
        run_component("prepare", experiment, {}, str(tmp_path / "manifest"))
    assert ended.value.code == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("the task was given 99 GPUs and CUDA sees ")
    assert "check: nvidia-smi" in line


def test_on_a_machine_of_one_s_own_what_is_there_is_used():
    require_gpus({GPU_VARIABLE: "99", SHARED_VARIABLE: "1"})
    require_gpus({})
