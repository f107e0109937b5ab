"""`results.json`: the figures of a run, gathered from the manifests and from nothing else.

A run that is repeated on the same results gathers the same document: what differs between two readings (dates, this
machine) is not in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from sskd_core.config.base import StrictModel
from sskd_core.storage.manifest import Manifest

MODELS = {
    "zero_shot_teacher": "zero-shot teacher",
    "adapted_teacher": "adapted teacher",
    "supervised_student": "supervised-only student",
    "distilled_student": "distilled student",
    "refined_student": "refined student",
}


class ModelResult(StrictModel):
    """One row of the table; AP in points, 0..100."""

    mask_ap: float
    mask_ap50: float
    parameters: int


class StageResult(StrictModel):
    """What one place of the pipeline cost and left."""

    stage: str
    seconds: float
    peak_memory_mb: float
    manifest: str = Field(description="URI")
    digest: str


class Results(StrictModel):
    """The figures of a run; `missing` names the nodes that left no manifest."""

    schema_version: int = 1
    name: str
    seed: int
    split: str | None = None
    images: int | None = None
    evaluator: str | None = None
    device: str | None = None
    versions: dict[str, str] = Field(default_factory=dict)
    models: dict[str, ModelResult] = Field(default_factory=dict)
    onnx: dict[str, float] = Field(default_factory=dict)
    verdict: dict[str, Any] | None = None
    registered_model: str | None = None
    version: str | None = None
    alias: str | None = None
    stages: dict[str, StageResult] = Field(default_factory=dict)
    counts: dict[str, Any] = Field(default_factory=dict)
    licences: list[str] = Field(default_factory=list)
    missing: list[str] = Field(default_factory=list)

    @property
    def seconds(self) -> float:
        """Compute time of all stages."""
        return sum(stage.seconds for stage in self.stages.values())


def gather(name: str, seed: int, nodes: list[str], manifests: Mapping[str, Manifest]) -> Results:
    """Gather the figures of a run.

    Args:
        name: of the experiment.
        seed: of the experiment.
        nodes: all places of the pipeline, in order.
        manifests: by node; those that are not there are listed as missing.
    """
    values: dict[str, Any] = {
        "name": name,
        "seed": seed,
        "stages": {node: _stage(manifests[node]) for node in nodes if node in manifests},
        "missing": [node for node in nodes if node not in manifests],
        "licences": sorted({licence for item in manifests.values() for licence in item.licences}),
    }
    if "prepare" in manifests:
        values["counts"] = manifests["prepare"].facts.get("counts", {})
    if "evaluate" in manifests:
        values |= _evaluation(manifests["evaluate"])
    if "export_onnx" in manifests:
        values["onnx"] = manifests["export_onnx"].metrics
    if "register" in manifests:
        facts = manifests["register"].facts
        values |= {key: facts.get(key) for key in ("verdict", "registered_model", "version", "alias")}
    return Results(**values)


def _stage(manifest: Manifest) -> StageResult:
    return StageResult(
        stage=manifest.stage,
        seconds=manifest.facts["seconds"],
        peak_memory_mb=manifest.facts["peak_memory_mb"],
        manifest=manifest.uri,
        digest=manifest.digest,
    )


def _evaluation(manifest: Manifest) -> dict[str, Any]:
    parameters = manifest.facts["models"]
    models = {
        name: ModelResult(
            mask_ap=manifest.metrics[f"{name}/mask_ap"],
            mask_ap50=manifest.metrics[f"{name}/mask_ap50"],
            parameters=parameters[name],
        )
        for name in MODELS
        if f"{name}/mask_ap" in manifest.metrics
    }
    kept = ("split", "images", "evaluator", "device", "versions")
    return {"models": models, **{key: manifest.facts[key] for key in kept if key in manifest.facts}}
