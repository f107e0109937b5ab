"""The `register` stage: judge the student, put it into the MLflow registry, and move the alias if the gate agrees.

A gate that fails is a result, not an error: the version is registered as rejected, no alias moves, and the record says
why. The registry itself can be wiped while this stage's manifest lives on, so a cached stage makes sure of its version.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from sskd_core.config.finish import RegisterConfig
from sskd_core.config.tracking import TrackingConfig
from sskd_core.stages.contract import StageContext, StageResult
from sskd_core.storage.manifest import Manifest, ObjectRef
from sskd_core.storage.store import ObjectStore
from sskd_core.tracking.client import connect, resolved_mode
from sskd_core.tracking.gate import judge
from sskd_core.tracking.lineage import MANIFEST_TAG
from sskd_core.tracking.registry import Registration, ensure_registered

_MODEL = "mlflow-model"
_ORIGINS = ("student", "evaluation", "onnx")
_REQUIREMENTS = ["numpy", "onnx", "onnxruntime"]


def run(config: RegisterConfig, inputs: Mapping[str, Manifest], context: StageContext) -> StageResult:
    """Judge and register.

    Args:
        config: gate, registry, alias.
        inputs: `data`, `student` (refine), `evaluation` (evaluate), `onnx` (export_onnx).
        context: see `StageContext`.
    """
    record = judge(config.gate, inputs["evaluation"], inputs["onnx"])
    for rule in record.rules:
        context.progress.note(f"gate: {'passed' if rule.passed else 'FAILED'}: {rule.reason}")
    outputs = [
        context.store.put_output(
            "gate", f"{context.prefix}/gate.json", json.dumps(record.to_dict()).encode(), "application/json"
        ),
        *_write_model(inputs["onnx"], context),
    ]
    facts = {
        "verdict": record.to_dict(),
        "alias": config.alias,
        "classes": inputs["student"].facts["classes"],
        "tags": _tags(inputs, json.dumps(record.to_dict(), separators=(",", ":"))),
    }
    wanted = _registration(config.tracking, facts, context.prefix, context.fingerprint, context.run.run_id)
    facts |= _register(config.tracking, context.store, wanted)
    return StageResult(outputs=outputs, metrics=dict(_figures(inputs)), facts=facts)


def on_cached(manifest: Manifest, store: ObjectStore, tracking: TrackingConfig) -> None:
    """Make sure that the registry has the version of a stage that was found done."""
    prefix = manifest.uri.removesuffix("/manifest.json")
    wanted = _registration(tracking, manifest.facts, prefix, manifest.fingerprint, run_id=None)
    _register(tracking, store, wanted)


def _registration(
    tracking: TrackingConfig, facts: Mapping[str, object], prefix: str, fingerprint: str, run_id: str | None
) -> Registration:
    verdict, tags = facts["verdict"], facts["tags"]
    assert isinstance(verdict, dict)
    assert isinstance(tags, dict)
    return Registration(
        name=tracking.registered_model,
        source=f"{prefix}/{_MODEL}",
        run_id=run_id,
        fingerprint=fingerprint,
        tags=tags,
        passed=bool(verdict["passed"]),
        alias=str(facts["alias"]),
    )


def _register(tracking: TrackingConfig, store: ObjectStore, wanted: Registration) -> dict[str, str | None]:
    if resolved_mode(tracking) == "off":
        return {"registered_model": None, "version": None}
    version = ensure_registered(connect(tracking, store.config), wanted)
    return {"registered_model": wanted.name, "version": version}


def _write_model(onnx: Manifest, context: StageContext) -> list[ObjectRef]:
    """Write the ONNX file in MLflow's own folder format, so that `mlflow.onnx.load_model` and serving find it."""
    import mlflow.onnx
    import onnx as onnx_format

    source = onnx.output("onnx")
    model = onnx_format.load_model_from_string(context.store.read(source))
    folder: Path = context.workdir / _MODEL
    mlflow.onnx.save_model(model, folder, pip_requirements=_REQUIREMENTS)
    return [
        context.store.upload_output(f"{_MODEL}/{name}", f"{context.prefix}/{_MODEL}/{name}", folder / name)
        for name in sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    ]


def _tags(inputs: Mapping[str, Manifest], record: str) -> dict[str, str]:
    student, evaluation = inputs["student"], inputs["evaluation"]
    model = student.config["model"]
    return {
        **{f"{MANIFEST_TAG}{name}": f"{inputs[name].uri} {inputs[name].digest}" for name in _ORIGINS},
        "sskd.gate": record,
        "sskd.licences": ", ".join(inputs["onnx"].licences),
        "sskd.family": str(model["family"]),
        "sskd.classes": json.dumps(student.facts["classes"]),
        "sskd.mask_ap": f"{evaluation.metrics['refined_student/mask_ap']:.3f}",
        "sskd.split": str(evaluation.facts["split"]),
        "sskd.evaluator": str(evaluation.facts["evaluator"]),
    }


def _figures(inputs: Mapping[str, Manifest]) -> Mapping[str, float]:
    evaluation, onnx = inputs["evaluation"].metrics, inputs["onnx"].metrics
    return {
        "mask_ap": evaluation["refined_student/mask_ap"],
        "gain_over_supervised": evaluation["refined_student/mask_ap"] - evaluation["supervised_student/mask_ap"],
        "mask_ap_difference": onnx["mask_ap_difference"],
    }
