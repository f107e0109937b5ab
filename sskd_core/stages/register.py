"""The `register` stage: judge the student, put it into the MLflow registry, and move the alias if the gate agrees.

A gate that fails is a result, not an error: the version is registered as rejected, no alias moves, and the record says
why. The registry itself can be wiped while this stage's manifest lives on, so a stage that was found done makes sure of
its version.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sskd_core.config.finish import RegisterConfig
from sskd_core.config.tracking import TrackingConfig
from sskd_core.stages.contract import StageContext, StageResult
from sskd_core.storage.digest import canonical_json
from sskd_core.storage.manifest import InputRef, Manifest, ObjectRef
from sskd_core.storage.store import ObjectStore
from sskd_core.tracking.client import configure_mlflow, connect, resolved_mode
from sskd_core.tracking.gate import GateRecord, judge
from sskd_core.tracking.lineage import ANSWERS, MANIFEST_TAG, answers, trace
from sskd_core.tracking.registry import FILE_TAG, Registration, ensure_registered

if TYPE_CHECKING:
    from onnx import ModelProto

_MODEL = "mlflow-model"
_FILE = f"{_MODEL}/model.onnx"
_ORIGINS = ("student", "evaluation", "onnx")
_REQUIREMENTS = ["numpy", "onnx", "onnxruntime"]


def run(config: RegisterConfig, inputs: Mapping[str, Manifest], context: StageContext) -> StageResult:
    """Judge and register.

    Args:
        config: gate, registry, alias.
        inputs: `data`, `student` (refine), `evaluation` (evaluate), `onnx` (export_onnx).
        context: see `StageContext`.

    Returns:
        Outputs `gate` (the record) and `mlflow-model/*`; facts `verdict` (the same record), `registered_model` and
        `version` (null when tracking is off), `alias` (null unless the gate passed), `tags` (of the version).

    Raises:
        UserError: the registry cannot be reached or refuses.
        IntegrityError: a manifest or the ONNX file is not the one that was named.
    """
    record = judge(config.gate, inputs["student"], inputs["evaluation"], inputs["onnx"])
    for rule in record.rules:
        context.progress.note(f"gate: {'passed' if rule.passed else 'FAILED'}: {rule.reason}")
    gate = canonical_json(record.to_dict())
    outputs = [
        context.store.put_output("gate", f"{context.prefix}/gate.json", gate, "application/json"),
        *_write_model(inputs["onnx"], context),
    ]
    facts: dict[str, Any] = {
        "verdict": record.to_dict(),
        "alias": config.alias if record.passed else None,
        "classes": inputs["student"].facts["classes"],
        "tags": _tags(inputs, record, outputs, context.store),
    }
    wanted = _registration(config.tracking, facts, context.prefix, context.fingerprint, context.run.run_id)
    facts["version"] = _register(config.tracking, context.store, wanted)
    facts["registered_model"] = None if facts["version"] is None else wanted.name
    if facts["version"] is None:
        context.progress.note("no registry: tracking is off")
    return StageResult(outputs=outputs, metrics=_figures(inputs), facts=facts)


def on_cached(manifest: Manifest, store: ObjectStore, tracking: TrackingConfig) -> None:
    """Make sure that the registry has the version of a stage that was found done."""
    prefix = manifest.uri.rpartition("/")[0]
    wanted = _registration(tracking, manifest.facts, prefix, manifest.fingerprint, run_id=None)
    _register(tracking, store, wanted)


def _registration(
    tracking: TrackingConfig, facts: Mapping[str, Any], prefix: str, fingerprint: str, run_id: str | None
) -> Registration:
    return Registration(
        name=tracking.registered_model,
        source=f"{prefix}/{_MODEL}",
        run_id=run_id,
        fingerprint=fingerprint,
        tags=facts["tags"],
        alias=facts["alias"],
    )


def _register(tracking: TrackingConfig, store: ObjectStore, wanted: Registration) -> str | None:
    if resolved_mode(tracking) == "off":
        return None
    return ensure_registered(connect(tracking, store.config), wanted)


def _write_model(onnx: Manifest, context: StageContext) -> list[ObjectRef]:
    """Write the ONNX file in MLflow's own folder format, so that `mlflow.onnx.load_model` and serving find it."""
    configure_mlflow(context.store.config)
    import mlflow.onnx
    from mlflow.models import Model
    from onnx import load_model_from_string

    network = load_model_from_string(context.store.read(onnx.output("onnx")))
    # Nothing in the folder may depend on when it is made: a twin of this stage writes the same bytes to the same place.
    description = Model(utc_time_created=onnx.created.isoformat(), model_uuid=context.fingerprint[-32:])
    folder: Path = context.workdir / _MODEL
    mlflow.onnx.save_model(
        network,
        folder,
        mlflow_model=description,
        signature=_signature(network),
        pip_requirements=_REQUIREMENTS,
        save_as_external_data=False,
    )
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return [
        context.store.upload_output(f"{_MODEL}/{name}", f"{context.prefix}/{_MODEL}/{name}", folder / name)
        for name in names
    ]


def _signature(network: ModelProto) -> Any:
    """Return MLflow's description of the tensors that go in and out."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema, TensorSpec
    from onnx.helper import tensor_dtype_to_np_dtype

    def schema(values: Any) -> Schema:
        specs: list[ColSpec | TensorSpec] = []
        for value in values:
            tensor = value.type.tensor_type
            shape = tuple(item.dim_value if item.HasField("dim_value") else -1 for item in tensor.shape.dim)
            specs.append(TensorSpec(tensor_dtype_to_np_dtype(tensor.elem_type), shape, value.name))
        return Schema(specs)

    return ModelSignature(schema(network.graph.input), schema(network.graph.output))


def _tags(
    inputs: Mapping[str, Manifest], record: GateRecord, outputs: list[ObjectRef], store: ObjectStore
) -> dict[str, str]:
    """Return all that the registry says about a version: origin, figures, verdict, licences."""
    student, evaluation = inputs["student"], inputs["evaluation"]
    model = student.config["model"]
    file = next(item for item in outputs if item.name == _FILE)
    origins = [InputRef(uri=inputs[name].uri, digest=inputs[name].digest) for name in _ORIGINS]
    found = answers(trace(origins, store))
    return {
        **{f"{MANIFEST_TAG}{name}": f"{inputs[name].uri} {inputs[name].digest}" for name in _ORIGINS},
        **{f"sskd.lineage.{name}": canonical_json(found[name]).decode() for name in ANSWERS},
        FILE_TAG: f"{file.uri} {file.digest}",
        "sskd.gate": canonical_json(record.to_dict()).decode(),
        "sskd.licences": ", ".join(inputs["onnx"].licences),
        "sskd.family": str(model["family"]),
        "sskd.classes": json.dumps(student.facts["classes"]),
        "sskd.mask_ap": f"{evaluation.metrics['refined_student/mask_ap']:.3f}",
        "sskd.split": str(evaluation.facts["split"]),
        "sskd.evaluator": str(evaluation.facts["evaluator"]),
    }


def _figures(inputs: Mapping[str, Manifest]) -> dict[str, float]:
    evaluation, onnx = inputs["evaluation"].metrics, inputs["onnx"].metrics
    return {
        "mask_ap": evaluation["refined_student/mask_ap"],
        "gain_over_supervised": evaluation["refined_student/mask_ap"] - evaluation["supervised_student/mask_ap"],
        "mask_ap_difference": onnx["mask_ap_difference"],
    }
