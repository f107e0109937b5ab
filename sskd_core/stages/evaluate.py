"""The `evaluate` stage: mask AP of every model of the run on one split, and what they see side by side.

All models meet the same images under the same evaluator. Nothing is selected here; selection happened on val.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.metadata import version

from sskd_core.config.finish import EvaluateConfig
from sskd_core.config.model import ModelConfig
from sskd_core.data.dataset import Dataset
from sskd_core.data.records import ImageRecord, Instance
from sskd_core.evaluation.instance_ap import InstanceAP, evaluator_name, instance_ap
from sskd_core.evaluation.overlay import draw_row
from sskd_core.models.build import build_model
from sskd_core.models.predict import Predictor
from sskd_core.models.protocol import SegmentationModel
from sskd_core.models.trained import default_device, load_trained
from sskd_core.stages.contract import StageContext, StageResult
from sskd_core.storage.digest import canonical_json
from sskd_core.storage.manifest import Manifest, ObjectRef

ZERO_SHOT = "zero_shot_teacher"
MODELS = (ZERO_SHOT, "adapted_teacher", "supervised_student", "distilled_student", "refined_student")
_SHOWN = (
    ("zero-shot teacher", ZERO_SHOT),
    ("adapted teacher", "adapted_teacher"),
    ("refined student", "refined_student"),
)
_SHOWN_SCORE = 0.35
Predictions = dict[str, list[Instance]]


def run(config: EvaluateConfig, inputs: Mapping[str, Manifest], context: StageContext) -> StageResult:
    """Evaluate all models.

    Args:
        config: split, batch, limits.
        inputs: `data`, and a training stage's manifest under the name of each model but the zero-shot teacher, which is
            built from the initial weights that the adapted teacher's manifest records.
        context: see `StageContext`.
    """
    dataset = Dataset.load(inputs["data"], context.store)
    records, truth = dataset.images(config.split), dataset.ground_truth(config.split)
    shown = {records[index].image_id for index in _spread(len(records), config.overlay_images)}
    results: dict[str, InstanceAP] = {}
    parameters: dict[str, int] = {}
    kept: dict[str, Predictions] = {}
    for number, (name, model) in enumerate(_models(inputs, context, dataset.classes)):
        predictor = Predictor(model, max_instances=config.max_detections)
        found: Predictions = {}
        for start in range(0, len(records), config.batch):
            chunk = records[start : start + config.batch]
            predicted = predictor.predict([dataset.read_image(record) for record in chunk])
            found |= {record.image_id: items for record, items in zip(chunk, predicted, strict=True)}
            context.progress.update(number * len(records) + len(found), len(MODELS) * len(records), "images")
        results[name] = instance_ap(truth, found, dataset.classes, config.max_detections)
        parameters[name] = sum(parameter.numel() for parameter in model.parameters())
        kept[name] = {image_id: items for image_id, items in found.items() if image_id in shown}
    metrics = {f"{name}/mask_ap": result.mask_ap for name, result in results.items()}
    metrics |= {f"{name}/mask_ap50": result.mask_ap50 for name, result in results.items()}
    overlays = [record for record in records if record.image_id in shown]
    return StageResult(
        outputs=[
            _write_results(config, results, parameters, context),
            *_write_overlays(overlays, kept, dataset, config.split, context),
        ],
        metrics=metrics,
        facts={
            "models": parameters,
            "split": config.split,
            "images": len(records),
            "evaluator": evaluator_name(),
            "device": str(default_device()),
            "versions": {name: version(name) for name in ("torch", "transformers", "hotcoco")},
        },
    )


def _models(
    inputs: Mapping[str, Manifest], context: StageContext, classes: list[str]
) -> Iterator[tuple[str, SegmentationModel]]:
    """Yield the models one by one, so that only one is in memory."""
    for name in MODELS:
        if name == ZERO_SHOT:
            origin = inputs["adapted_teacher"].config
            model = build_model(ModelConfig(**origin["model"]), classes, context.store, origin["seed"])
            yield name, model.eval().to(default_device())
        else:
            yield name, load_trained(inputs[name], context.store)


def _spread(count: int, wanted: int) -> list[int]:
    """Return `wanted` indices that lie evenly in 0..count-1."""
    wanted = min(wanted, count)
    return [index * count // wanted for index in range(wanted)]


def _write_results(
    config: EvaluateConfig, results: Mapping[str, InstanceAP], parameters: Mapping[str, int], context: StageContext
) -> ObjectRef:
    document = {
        "split": config.split,
        "evaluator": evaluator_name(),
        "models": {name: {**result.to_dict(), "parameters": parameters[name]} for name, result in results.items()},
    }
    uri = f"{context.prefix}/evaluation.json"
    return context.store.put_output("evaluation", uri, canonical_json(document), "application/json")


def _write_overlays(
    records: list[ImageRecord], found: Mapping[str, Predictions], dataset: Dataset, split: str, context: StageContext
) -> list[ObjectRef]:
    truth = dataset.ground_truth(split)
    written = []
    for number, record in enumerate(records):
        panels = [("ground truth", truth[record.image_id].instances)]
        for caption, name in _SHOWN:
            panels.append((caption, [item for item in found[name][record.image_id] if item.score >= _SHOWN_SCORE]))
        picture = draw_row(dataset.read_image(record), panels, dataset.classes)
        name, uri = f"overlays/{number:02d}", f"{context.prefix}/overlays/{number:02d}.png"
        written.append(context.store.put_output(name, uri, picture, "image/png"))
    return written
