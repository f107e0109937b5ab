"""Components only pass files on: they import no library of ours until they run, and each calls its own stage."""

from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys
from typing import Any

import pytest
from kfp.dsl.base_component import BaseComponent

import components
from sskd_core.config.experiment import NODES
from sskd_core.stages import component
from sskd_core.stages.registry import REPORT


def all_components() -> dict[str, BaseComponent]:
    found: dict[str, BaseComponent] = {}
    for module in pkgutil.iter_modules(components.__path__, "components."):
        for name, value in vars(importlib.import_module(module.name)).items():
            if isinstance(value, BaseComponent):
                found[name] = value
    return found


class Artifact:
    """As much of a KFP artifact as a component body touches."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.metadata: dict[str, Any] = {}


@pytest.mark.parametrize("node", [*NODES, REPORT], ids=lambda node: node.name)
def test_a_component_passes_its_inputs_to_its_node(node, monkeypatch: pytest.MonkeyPatch):
    calls: list[Any] = []

    def run_component(*arguments: Any, **options: Any) -> dict[str, float]:
        calls.append((arguments, options))
        return {"figure": 1.5}

    monkeypatch.setattr(component, "run_component", run_component)
    monkeypatch.setattr(component, "write_output", lambda *arguments: None)
    name = "collect_labels" if node.fan_out else node.name
    body = all_components()[name].python_func  # type: ignore[attr-defined]
    artifacts = {key: Artifact(f"/in/{key}") for key in node.inputs}
    extra: dict[str, Any] = {"node": node.name, "workers": []} if node.fan_out else {}
    outputs = {"page" if node == REPORT else "metrics": Artifact("/out/second")}
    body(experiment="{}", manifest=Artifact("/out/manifest"), **artifacts, **extra, **outputs)
    assert calls == [((node.name, "{}", {key: f"/in/{key}" for key in node.inputs}, "/out/manifest"), {})]
    if "metrics" in outputs:
        assert outputs["metrics"].metadata == {"figure": 1.5}


def test_a_labelling_worker_passes_its_number(monkeypatch: pytest.MonkeyPatch):
    calls: list[Any] = []
    monkeypatch.setattr(component, "run_component", lambda *a, **options: calls.append((a, options)) or {})
    all_components()["pseudo_label"].python_func(  # type: ignore[attr-defined]
        experiment="{}", node="relabel", worker=3, data=Artifact("/d"), teacher=Artifact("/t"),
        manifest=Artifact("/m"), metrics=Artifact("/x"),
    )  # fmt: skip
    assert calls == [(("relabel", "{}", {"data": "/d", "teacher": "/t"}, "/m"), {"worker": 3})]


def test_importing_the_pipeline_imports_nothing_heavy():
    code = "import pipelines.sskd, sys; print(sorted({'torch', 'mlflow', 'transformers', 'boto3'} & set(sys.modules)))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"
