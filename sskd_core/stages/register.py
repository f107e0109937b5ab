"""The `register` stage: put the student into the MLflow registry as challenger, and promote it if the gate agrees.

A gate that fails is a result, not an error: the version is tagged as rejected, the champion stays, and the record says
why. The registry itself can be wiped while this stage's manifest lives on, so a stage that was found done makes sure of
its version.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sskd_core.config.base import validate
from sskd_core.config.finish import RegisterConfig
from sskd_core.config.tracking import TrackingConfig
from sskd_core.stages.contract import StageContext, StageResult
from sskd_core.storage.digest import canonical_json
from sskd_core.storage.manifest import InputRef, Manifest, ObjectRef
from sskd_core.storage.store import ObjectStore
from sskd_core.tracking.candidate import MANIFEST_TAG, ORIGINS, candidate_of
from sskd_core.tracking.client import configure_mlflow, connect, resolved_mode
from sskd_core.tracking.comparison import judge
from sskd_core.tracking.lineage import ANSWERS, answers, trace
from sskd_core.tracking.promotion import Promotion
from sskd_core.tracking.registry import FILE_TAG, Registration, ensure_version

if TYPE_CHECKING:
    from onnx import ModelProto

_MODEL = "mlflow-model"
_FILE = f"{_MODEL}/model.onnx"
_REQUIREMENTS = ["numpy", "onnx", "onnxruntime"]


def run(config: RegisterConfig, inputs: Mapping[str, Manifest], context: StageContext) -> StageResult:
    """Register, judge, and promote what passed.

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
    files = _write_model(inputs["onnx"], context)
    facts: dict[str, Any] = {"classes": inputs["student"].facts["classes"], "tags": _tags(inputs, files, context.store)}
    wanted = _registration(config.tracking, facts, context.prefix, context.fingerprint, context.run.run_id)
    version, record = _offer(config, context.store, wanted)
    if record is None:
        candidate = candidate_of({name: inputs[name] for name in ORIGINS}, context.store)
        record = judge(config.gate, candidate, None, context.store).to_dict()
        context.progress.note("no registry: tracking is off")
    for rule in record["rules"]:
        context.progress.note(f"gate: {rule['verdict']}: {rule['name']}: {rule['reason']}")
    gate = context.store.put_output("gate", f"{context.prefix}/gate.json", canonical_json(record), "application/json")
    facts |= {
        "verdict": record,
        "alias": config.alias if record["passed"] else None,
        "version": version,
        "registered_model": None if version is None else wanted.name,
    }
    return StageResult(outputs=[gate, *files], metrics=_figures(inputs), facts=facts)


def on_cached(manifest: Manifest, store: ObjectStore, tracking: TrackingConfig) -> None:
    """Make sure that the registry has the version of a stage that was found done, and that its aliases hold.

    A version that was judged before is not judged again; one that was made while tracking was off is.
    """
    prefix = manifest.uri.rpartition("/")[0]
    wanted = _registration(tracking, manifest.facts, prefix, manifest.fingerprint, run_id=None)
    config = validate(RegisterConfig, {**manifest.config, "tracking": tracking}, manifest.uri)
    known = manifest.facts["verdict"] if manifest.facts["version"] is not None else None
    _offer(config, store, wanted, known)


def _registration(
    tracking: TrackingConfig, facts: Mapping[str, Any], prefix: str, fingerprint: str, run_id: str | None
) -> Registration:
    return Registration(
        name=tracking.registered_model,
        source=f"{prefix}/{_MODEL}",
        run_id=run_id,
        fingerprint=fingerprint,
        tags=facts["tags"],
    )


def _offer(
    config: RegisterConfig, store: ObjectStore, wanted: Registration, known: dict[str, Any] | None = None
) -> tuple[str | None, dict[str, Any] | None]:
    """Register a version and offer it to the gate, once; return its number and the gate's record.

    Args:
        config: of the stage.
        store: keeps the decisions.
        wanted: the version.
        known: the record of an earlier judgement that did not pass, or that led to a decision.

    Returns:
        Both None when tracking is off.
    """
    if resolved_mode(config.tracking) == "off":
        return None, None
    client = connect(config.tracking, store.config)
    version = ensure_version(client, wanted)
    promotion = Promotion(client, store, wanted.name, config.alias)
    earlier = promotion.was_promoted(wanted.fingerprint)
    if earlier is not None or (known is not None and not known["passed"]):
        promotion.settle()
        return str(version.version), known if earlier is None else earlier.gate
    return str(version.version), promotion.promote(version, config.gate).gate


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


def _tags(inputs: Mapping[str, Manifest], files: list[ObjectRef], store: ObjectStore) -> dict[str, str]:
    """Return all that the registry says about a version from the start: origin, figures, licences."""
    student, evaluation = inputs["student"], inputs["evaluation"]
    model = student.config["model"]
    file = next(item for item in files if item.name == _FILE)
    origins = [InputRef(uri=inputs[name].uri, digest=inputs[name].digest) for name in ORIGINS]
    found = answers(trace(origins, store))
    return {
        **{f"{MANIFEST_TAG}{name}": f"{inputs[name].uri} {inputs[name].digest}" for name in ORIGINS},
        **{f"sskd.lineage.{name}": canonical_json(found[name]).decode() for name in ANSWERS},
        FILE_TAG: f"{file.uri} {file.digest}",
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
