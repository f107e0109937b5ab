"""The `register` stage: put the student into the MLflow registry as challenger, and promote it if the gate agrees.

A gate that fails is a result, not an error: the version is tagged as rejected, the champion stays, and the record says
why. The registry itself can be wiped while this stage's manifest lives on, so a stage that was found done makes sure of
its version.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sskd_core.config.base import validate
from sskd_core.config.finish import RegisterConfig
from sskd_core.config.tracking import TrackingConfig
from sskd_core.errors import UserError
from sskd_core.evaluation.delivered import delivered
from sskd_core.export.mlflow_model import ONNX_FILE, write_mlflow_model
from sskd_core.reporting.card import render_card
from sskd_core.stages.contract import StageContext, StageResult
from sskd_core.storage.digest import canonical_json
from sskd_core.storage.manifest import InputRef, Manifest, ObjectRef
from sskd_core.storage.store import ObjectStore
from sskd_core.tracking.candidate import MANIFEST_TAG, ORIGINS, candidate_of
from sskd_core.tracking.client import configure_mlflow, connect, resolved_mode
from sskd_core.tracking.comparison import judge
from sskd_core.tracking.lineage import ANSWERS, Step, answers, trace
from sskd_core.tracking.promotion import Promotion
from sskd_core.tracking.registry import FILE_TAG, Registration, ensure_version

CARD = "card/"
"""How the output names of the model card's files start."""
_MODEL = "mlflow-model"
_FILE = f"{_MODEL}/{ONNX_FILE}"


def run(config: RegisterConfig, inputs: Mapping[str, Manifest], context: StageContext) -> StageResult:
    """Register, judge, and promote what passed.

    Args:
        config: gate, registry, alias.
        inputs: `data`, `student` (refine), `evaluation` (evaluate), `onnx` (export_onnx).
        context: see `StageContext`.

    Returns:
        Outputs `gate` (the record), `mlflow-model/*` and `card/*` (the model card); facts `verdict` (the same record),
        `registered_model` and `version` (null when tracking is off), `alias` (null unless the gate passed), `tags` (of
        the version).

    Raises:
        UserError: the registry cannot be reached or refuses.
        IntegrityError: a manifest or the ONNX file is not the one that was named.
    """
    steps = trace([InputRef(uri=inputs[name].uri, digest=inputs[name].digest) for name in ORIGINS], context.store)
    files = _write_model(inputs["onnx"], context)
    card = _write_card(config.tracking.registered_model, inputs, steps, context)
    facts: dict[str, Any] = {"classes": inputs["student"].facts["classes"], "tags": _tags(inputs, files, steps)}
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
    return StageResult(outputs=[gate, *files, *card], metrics=_figures(inputs), facts=facts)


def on_cached(manifest: Manifest, store: ObjectStore, tracking: TrackingConfig) -> None:
    """Make sure that the registry has the version of a stage that was found done, and that its aliases hold.

    A version that was judged before is not judged again; one that was made while tracking was off is.
    """
    prefix = manifest.uri.rpartition("/")[0]
    wanted = _registration(tracking, manifest.facts, prefix, manifest.fingerprint, run_id=None)
    config = validate(RegisterConfig, {**manifest.config, "tracking": tracking}, manifest.uri)
    known = manifest.facts["verdict"] if manifest.facts["version"] is not None else None
    _offer(config, store, wanted, known)


def read_manifest(source: str | None, store: ObjectStore) -> Manifest:
    """Return the manifest of the stage that registered a version.

    Args:
        source: of the version.
        store: where it lies.

    Raises:
        UserError: another tool registered the version.
        StorageError: the manifest is gone, or was never finished.
    """
    if source is None or not source.endswith(f"/{_MODEL}"):
        raise UserError(f"the version's source is {source}; sskd did not register it, so it has no model card")
    return store.manifest(f"{source.removesuffix(_MODEL)}manifest.json")


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
    """Write the folder that MLflow loads and serves."""
    configure_mlflow(context.store.config)
    from mlflow.models import Model

    # Nothing in the folder may depend on when it is made: a twin of this stage writes the same bytes to the same place.
    description = Model(utc_time_created=onnx.created.isoformat(), model_uuid=context.fingerprint[-32:])
    folder: Path = context.workdir / _MODEL
    return [
        context.store.upload_output(f"{_MODEL}/{name}", f"{context.prefix}/{_MODEL}/{name}", folder / name)
        for name in write_mlflow_model(context.store.read(onnx.output("onnx")), folder, description)
    ]


def _write_card(name: str, inputs: Mapping[str, Manifest], steps: list[Step], context: StageContext) -> list[ObjectRef]:
    """Write the model card beside the model, with its pictures."""
    card = render_card(name, inputs, steps, context.store.read)
    files = {"card.md": (card.markdown.encode(), "text/markdown"), "card.html": (card.html.encode(), "text/html")}
    files |= {name: (data, "image/png") for name, data in card.pictures.items()}
    return [
        context.store.put_output(f"{CARD}{name}", f"{context.prefix}/{CARD}{name}", data, media_type)
        for name, (data, media_type) in files.items()
    ]


def _tags(inputs: Mapping[str, Manifest], files: list[ObjectRef], steps: list[Step]) -> dict[str, str]:
    """Return all that the registry says about a version from the start: origin, figures, licences."""
    student, evaluation = inputs["student"], inputs["evaluation"]
    model = student.config["model"]
    file = next(item for item in files if item.name == _FILE)
    found = answers(steps)
    return {
        **{f"{MANIFEST_TAG}{name}": f"{inputs[name].uri} {inputs[name].digest}" for name in ORIGINS},
        **{f"sskd.lineage.{name}": canonical_json(found[name]).decode() for name in ANSWERS},
        FILE_TAG: f"{file.uri} {file.digest}",
        "sskd.licences": ", ".join(inputs["onnx"].licences),
        "sskd.family": str(model["family"]),
        "sskd.classes": json.dumps(student.facts["classes"]),
        "sskd.mask_ap": f"{_figures(inputs)['mask_ap']:.3f}",
        "sskd.split": str(evaluation.facts["split"]),
        "sskd.evaluator": str(evaluation.facts["evaluator"]),
    }


def _figures(inputs: Mapping[str, Manifest]) -> dict[str, float]:
    evaluation, onnx = inputs["evaluation"].metrics, inputs["onnx"].metrics
    mask_ap = evaluation[f"{delivered({name.partition('/')[0] for name in evaluation})}/mask_ap"]
    return {
        "mask_ap": mask_ap,
        "gain_over_supervised": mask_ap - evaluation["supervised_student/mask_ap"],
        "mask_ap_difference": onnx["mask_ap_difference"],
    }
