"""Whether an object is one that a Kubernetes server takes, by models generated from its own schemas.

The models let unknown fields pass, so an object is also written out again and compared.
"""

from __future__ import annotations

import importlib
import re
from typing import Any

from pydantic import BaseModel, ValidationError

_MODELS = "kubex.k8s.v1_35"
_TRAINER = "trainer.kubeflow.org/v1alpha1"


def problems(item: dict[str, Any]) -> list[str]:
    """Return what a server would refuse or drop of an object."""
    if item["apiVersion"] == _TRAINER:
        return _of_trainer(item)
    group, _, version = item["apiVersion"].rpartition("/")
    folder = (group or "core").split(".")[0]
    return _against(_model(f"{folder}.{version}", item["kind"]), item)


def _of_trainer(item: dict[str, Any]) -> list[str]:
    """Check a TrainingRuntime: Kubeflow's own fields by name, the jobs in it by Kubernetes's models."""
    spec = item["spec"]
    found = sorted(set(item) ^ {"apiVersion", "kind", "metadata", "spec"})
    found += sorted(set(spec) - {"mlPolicy", "podGroupPolicy", "template"})
    found += sorted(set(spec["mlPolicy"]) - {"numNodes", "torch"}) + sorted(
        set(spec["mlPolicy"]["torch"]) - {"numProcPerNode"}
    )
    (job,) = spec["template"]["spec"]["replicatedJobs"]
    found += sorted(set(job) ^ {"name", "template"})
    if job["template"]["metadata"]["labels"].get("trainer.kubeflow.org/trainjob-ancestor-step") != "trainer":
        found.append("no job is the trainer's")
    return found + _against(_model("batch.v1", "JobTemplateSpec"), job["template"])


def _model(module: str, kind: str) -> type[BaseModel]:
    name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", kind).lower()
    model: type[BaseModel] = getattr(importlib.import_module(f"{_MODELS}.{module}.{name}"), kind)
    return model


def _against(model: type[BaseModel], item: dict[str, Any]) -> list[str]:
    try:
        read = model.model_validate(item)
    except ValidationError as error:
        return [f"{'.'.join(map(str, part['loc']))}: {part['msg']}" for part in error.errors()]
    return _dropped(item, read.model_dump(mode="json", by_alias=True, exclude_unset=True), "")


def _dropped(given: Any, read: Any, where: str) -> list[str]:
    """Return the places of what the model did not know."""
    if isinstance(given, dict) and isinstance(read, dict):
        gone = [f"{where}.{key}: unknown" for key in given.keys() - read.keys()]
        return gone + [
            line for key in given.keys() & read.keys() for line in _dropped(given[key], read[key], f"{where}.{key}")
        ]
    if isinstance(given, list) and isinstance(read, list):
        return [
            line
            for index, (a, b) in enumerate(zip(given, read, strict=True))
            for line in _dropped(a, b, f"{where}.{index}")
        ]
    return [] if given == read else [f"{where}: {given!r} was read as {read!r}"]
