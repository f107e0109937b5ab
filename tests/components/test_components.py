"""Components only pass files on: they import no library of ours until they run, and each calls its own stage."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from kfp import local

from components.readme import ROOT, load, main, names, render
from sskd_core.config.graph import GRAPHS
from sskd_core.config.parameters import EVERY_PARAMETER, PARAMETERS
from sskd_core.stages import component, ends
from sskd_core.storage.manifest import Manifest
from sskd_core.storage.store import ObjectStore
from tests.micro import micro_data, micro_experiment

STAGES = [(method, node) for method, graph in GRAPHS.items() for node in graph if not node.fan_out]
LIGHT_IMPORTS = {"typing", "kfp", "components.base", "sskd_core.config.parameters"}


class Artifact:
    """As much of a KFP artifact as a component body touches."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.metadata: dict[str, Any] = {}


def recorded(monkeypatch: pytest.MonkeyPatch, module: Any, name: str, answer: Any) -> list[Any]:
    calls: list[Any] = []

    def record(*arguments: Any, **options: Any) -> Any:
        calls.append((arguments, options))
        return answer

    monkeypatch.setattr(module, name, record)
    return calls


@pytest.mark.parametrize("node", [node for _, node in STAGES], ids=[f"{method}-{node.name}" for method, node in STAGES])
def test_a_component_passes_its_inputs_to_its_node(node, monkeypatch: pytest.MonkeyPatch):
    calls = recorded(monkeypatch, component, "run_component", {"figure": 1.5})
    artifacts = {key: Artifact(f"/in/{key}") for key in node.inputs}
    metrics = Artifact("/out/metrics")
    load(node.name).python_func(experiment="{}", manifest=Artifact("/out/manifest"), metrics=metrics, **artifacts)
    assert calls == [((node.name, "{}", {key: f"/in/{key}" for key in node.inputs}, "/out/manifest"), {})]
    assert metrics.metadata == {"figure": 1.5}


def test_a_component_runs_alone_under_the_local_runner(store: ObjectStore, tmp_path: Path):
    local.init(local.SubprocessRunner(use_venv=False), pipeline_root=str(tmp_path / "kfp"), raise_on_error=True)
    experiment = micro_experiment(store.config, micro_data(store))
    done = load("prepare")(experiment=experiment.model_dump_json())
    manifest = Manifest.model_validate_json(Path(done.outputs["manifest"].path).read_bytes())
    assert store.manifest(manifest.uri) == manifest
    assert done.outputs["metrics"].metadata == manifest.metrics != {}


@pytest.mark.parametrize(
    ("name", "own", "options"),
    [("pseudo_label", {"worker": 3}, {"worker": 3}), ("collect_labels", {"workers": []}, {})],
)
def test_labelling_passes_its_node(name: str, own, options, monkeypatch: pytest.MonkeyPatch):
    calls = recorded(monkeypatch, component, "run_component", {})
    load(name).python_func(
        experiment="{}", node="relabel", data=Artifact("/d"), teacher=Artifact("/t"),
        manifest=Artifact("/m"), metrics=Artifact("/x"), **own,
    )  # fmt: skip
    assert calls == [(("relabel", "{}", {"data": "/d", "teacher": "/t"}, "/m"), options)]


def test_configure_passes_the_whole_form(monkeypatch: pytest.MonkeyPatch):
    calls = recorded(monkeypatch, ends, "run_configure", [0, 1])
    form = {item.name: item.name for item in EVERY_PARAMETER}
    answer = load("configure").python_func(
        run_id="7", secrets={"A": "s/k"}, resolved="/resolved", plan=Artifact("/plan"), **form
    )
    assert answer == [0, 1]
    assert calls == [((form, "7", {"A": "s/k"}, "/resolved", "/plan"), {})]


def test_the_report_passes_how_the_run_ended(monkeypatch: pytest.MonkeyPatch):
    from kfp.dsl import PipelineTaskFinalStatus

    calls = recorded(monkeypatch, ends, "run_report", None)
    status = PipelineTaskFinalStatus("FAILED", "job", "task", 1, "distill failed")
    load("report").python_func(
        run_id="7", status=status, manifest=Artifact("/m"), page=Artifact("/p"), summary=Artifact("/s"),
        storage_root="s3://b",
    )  # fmt: skip
    assert calls == [(({"storage_root": "s3://b"}, "7", "FAILED", "distill failed", "/m", "/p", "/s"), {})]


@pytest.mark.parametrize("name", names())
def test_a_component_has_no_code_no_shell_and_nothing_to_install(name: str):
    container = load(name).component_spec.implementation.container
    assert container.command == ["python3", "-m", "components.execute", "kfp.dsl.executor_main"]
    assert container.args == ["--function_to_execute", name, "--executor_input", "{{$}}"]


@pytest.mark.parametrize("name", names())
def test_nothing_heavy_is_imported_at_the_top(name: str):
    tree = ast.parse((ROOT / name / "component.py").read_text(encoding="utf-8"))
    imported = {item.module for item in tree.body if isinstance(item, ast.ImportFrom)}
    imported |= {alias.name for item in tree.body if isinstance(item, ast.Import) for alias in item.names}
    assert {module for module in imported if not module.startswith("kfp.")} <= LIGHT_IMPORTS


def test_importing_the_pipeline_imports_nothing_heavy():
    code = (
        "import pipelines.methods, sys; print(sorted({'torch', 'mlflow', 'transformers', 'boto3'} & set(sys.modules)))"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


@pytest.mark.parametrize("name", names())
def test_the_readme_is_that_of_the_docstring(name: str):
    assert (ROOT / name / "README.md").read_text(encoding="utf-8") == render(name), "run: python -m components.readme"


@pytest.mark.parametrize("name", names())
def test_every_input_and_the_metadata_are_described(name: str):
    spec = load(name).component_spec
    assert spec.description
    described = [*spec.inputs.items(), *spec.outputs.items()]
    assert [key for key, item in described if not item.description and key != "status"] == []
    assert f"name: {name}\n" in (ROOT / name / "metadata.yaml").read_text(encoding="utf-8")


def test_a_stale_readme_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setattr("components.readme.FILE", "OTHER.md")
    assert main(["--check"]) == 1
    assert "out of date: adapt_teacher" in capsys.readouterr().err
    assert not (ROOT / "prepare" / "OTHER.md").exists()


def execute(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "components.execute", "kfp.dsl.executor_main", *arguments]
    return subprocess.run(command, capture_output=True, text=True)


def test_a_component_that_the_image_does_not_have_is_one_line():
    done = execute("--function_to_execute", "no_such_stage", "--executor_input", "{}")
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "this image has no component 'no_such_stage': compile the pipeline with the version that the image holds"
    ]


def test_an_image_without_the_package_is_one_line(tmp_path: Path):
    command = [sys.executable, "-S", "-m", "components.execute", "kfp.dsl.executor_main"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env={"PATH": "/usr/bin"})
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "No module named 'components'" in line


def test_a_task_runs_its_component_and_exits_with_its_code(tmp_path: Path):
    outputs = {
        "parameters": {"resolved": {"outputFile": f"{tmp_path}/r"}, "Output": {"outputFile": f"{tmp_path}/w"}},
        "artifacts": {
            "plan": {
                "artifacts": [{"name": "plan", "type": {"schemaTitle": "system.Markdown"}, "uri": f"{tmp_path}/p"}]
            }
        },
        "outputFile": f"{tmp_path}/executor_output.json",
    }
    form = {item.name: item.type() for item in PARAMETERS} | {"refine_iterations": -1, "experiment": "preset: demo"}
    inputs = {"parameterValues": {**form, "run_id": "7", "secrets": {}}}
    done = execute(
        "--function_to_execute", "configure", "--executor_input", json.dumps({"inputs": inputs, "outputs": outputs})
    )
    assert done.returncode == 2
    assert "_iterations' (stages." in done.stderr.splitlines()[-1]
    assert not (tmp_path / "r").exists()
