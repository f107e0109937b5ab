"""`results.json`: the figures of a run, gathered from the manifests and from nothing else.

A run that is repeated on the same results gathers the same document: what differs between two readings (the date, this
machine) is not in it. The page and the table in the terminal show the figures of this document.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Literal

from pydantic import AwareDatetime, Field, FiniteFloat, ValidationError

from sskd_core.config.base import StrictModel
from sskd_core.config.experiment import ExperimentConfig
from sskd_core.errors import IntegrityError
from sskd_core.evaluation.delivered import delivered
from sskd_core.export.table import Variant
from sskd_core.storage.manifest import Manifest, ObjectRef

MODELS = {
    "zero_shot_teacher": "zero-shot teacher",
    "adapted_teacher": "adapted teacher",
    "supervised_student": "supervised-only student",
    "distilled_student": "distilled student",
    "refined_student": "refined student",
    "champion": "champion until then",
}
"""Key of a model in `results.json` -> what a person calls it, in the order of the tables."""

Read = Callable[[ObjectRef], bytes]
"""Returns the verified bytes of a stage's output."""


class ModelResult(StrictModel):
    """One row of the table; AP in points, 0..100."""

    mask_ap: FiniteFloat
    mask_ap50: FiniteFloat
    mask_ap75: FiniteFloat
    parameters: int = Field(ge=0)
    per_class: dict[str, FiniteFloat | None] = Field(description="class -> mask AP; null if the split has none of it")


class StageCost(StrictModel):
    """What one node of the pipeline cost, and where its manifest is.

    The cost is that of the run that did the work; a run that found the result pays nothing and shows the same figures.
    """

    stage: str
    seconds: FiniteFloat = Field(ge=0)
    finished: AwareDatetime = Field(description="when its work was done, `seconds` after it began")
    peak_memory_mb: FiniteFloat = Field(ge=0, description="peak resident memory, MiB")
    manifest: str = Field(description="URI")
    digest: str = Field(description="of the manifest")


class Results(StrictModel):
    """The figures of a run. What a stage that did not finish would have given is empty or null."""

    schema_version: Literal[1] = 1
    name: str
    seed: int
    split: str | None = None
    images: int | None = Field(None, description="images of the split")
    evaluator: str | None = None
    device: str | None = None
    versions: dict[str, str] = Field(default_factory=dict)
    models: dict[str, ModelResult] = Field(default_factory=dict)
    labels: dict[str, dict[str, FiniteFloat]] = Field(default_factory=dict, description="labelling node -> figures")
    onnx: dict[str, FiniteFloat] = Field(default_factory=dict, description="how the ONNX file compares with PyTorch")
    variants: list[Variant] = Field(default_factory=list, description="every exported file: size, parity, AP, latency")
    runtime: str | None = Field(None, description="what ran the exported files, one image a run")
    verdict: dict[str, Any] | None = Field(None, description="the gate's record")
    registered_model: str | None = None
    version: str | None = None
    alias: str | None = None
    stages: dict[str, StageCost] = Field(default_factory=dict)
    counts: dict[str, dict[str, int]] = Field(default_factory=dict, description="split -> images, instances")
    licences: list[str] = Field(default_factory=list)
    missing: list[str] = Field(default_factory=list, description="nodes without a manifest")

    @property
    def seconds(self) -> float:
        """Compute time of all stages."""
        return sum(stage.seconds for stage in self.stages.values())

    @property
    def peak_memory_mb(self) -> float:
        """Peak resident memory of the largest stage, MiB."""
        return max((stage.peak_memory_mb for stage in self.stages.values()), default=0.0)

    @property
    def delivered(self) -> str | None:
        """Key of the model that the run delivers, if it was evaluated."""
        return delivered(self.models)

    def gain(self, model: str, over: str) -> float | None:
        """Return the mask AP of one model minus that of another, None unless both were evaluated."""
        if model not in self.models or over not in self.models:
            return None
        return self.models[model].mask_ap - self.models[over].mask_ap

    def to_bytes(self) -> bytes:
        """Encode as indented JSON."""
        return self.model_dump_json(indent=2).encode() + b"\n"


def gather(experiment: ExperimentConfig, manifests: Mapping[str, Manifest], read: Read) -> Results:
    """Gather the figures of a run.

    Args:
        experiment: the whole run.
        manifests: by node; those that are not there are listed as missing.
        read: for the few outputs whose figures are too many for a manifest.

    Raises:
        IntegrityError: a manifest, or an output of one, is not what its stage writes.
    """
    values: dict[str, Any] = {"name": experiment.name, "seed": experiment.seed}
    values["missing"] = [node.name for node in experiment.nodes if node.name not in manifests]
    values["licences"] = sorted({licence for item in manifests.values() for licence in item.licences})
    for node in experiment.nodes:
        manifest = manifests.get(node.name)
        if manifest is not None:
            try:
                values.setdefault("stages", {})[node.name] = _cost(manifest)
                _merge(values, _figures(node.name, node.stage, manifest, read))
            except (KeyError, TypeError, ValueError) as error:
                raise IntegrityError(f"{manifest.uri}: not a result of stage '{node.stage}': {_line(error)}") from None
    return Results(**values)


def _cost(manifest: Manifest) -> StageCost:
    facts = manifest.facts
    # A stage that fans out took as long as its slowest worker, and then what collecting took.
    return StageCost(
        stage=manifest.stage,
        seconds=facts["seconds"] + facts.get("worker_seconds", 0.0),
        finished=manifest.created,
        peak_memory_mb=max(facts["peak_memory_mb"], facts.get("worker_peak_memory_mb", 0.0)),
        manifest=manifest.uri,
        digest=manifest.digest,
    )


def _figures(node: str, stage: str, manifest: Manifest, read: Read) -> dict[str, Any]:
    facts = manifest.facts
    match stage:
        case "prepare":
            return {"counts": facts["counts"]}
        case "pseudo_label":
            return {"labels": {node: manifest.metrics}}
        case "evaluate":
            kept = {key: facts[key] for key in ("split", "images", "evaluator", "device", "versions")}
            return {"models": _models(read(manifest.output("evaluation"))), **kept}
        case "export_onnx":
            return {
                "onnx": manifest.metrics,
                "versions": {"onnxruntime": facts["onnxruntime"]},
                "variants": [Variant(**row) for row in facts["variants"]],
                "runtime": f"onnxruntime {facts['onnxruntime']}, {facts['provider']}, {facts['processor']}",
            }
        case "register":
            return {key: facts[key] for key in ("verdict", "registered_model", "version", "alias")}
        case _:
            return {}


def _models(evaluation: bytes) -> dict[str, ModelResult]:
    """Return the rows of the models that the report knows, in its order."""
    rows = json.loads(evaluation)["models"]
    return {
        name: ModelResult(**{field: rows[name][field] for field in ModelResult.model_fields})
        for name in MODELS
        if name in rows
    }


def _merge(values: dict[str, Any], more: Mapping[str, Any]) -> None:
    """Add figures; dictionaries of the same name become one."""
    for key, value in more.items():
        values[key] = {**values[key], **value} if isinstance(values.get(key), dict) else value


def _line(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False)[0]
        return f"'{'.'.join(str(part) for part in first['loc'])}': {first['msg']}"
    return f"no {error}" if isinstance(error, KeyError) else str(error)
