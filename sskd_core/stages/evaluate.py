"""The `evaluate` stage: mask AP of every model of the run on one split, and what they see side by side.

All models meet the same images under the same evaluator. Nothing is selected here; selection happened on val.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Any

from sskd_core.config.base import validate
from sskd_core.config.finish import EvaluateConfig
from sskd_core.config.model import ModelConfig
from sskd_core.data.dataset import Dataset
from sskd_core.data.records import Instance
from sskd_core.errors import UserError
from sskd_core.evaluation.delivered import drawn
from sskd_core.evaluation.detectron2_ap import SecondOpinion, detectron2_mask_ap
from sskd_core.evaluation.instance_ap import InstanceAP, evaluator_name, instance_ap_and_matches
from sskd_core.evaluation.matches import MATCHES, MEDIA_TYPE, SplitMatches, encode_matches
from sskd_core.evaluation.overlay import draw_row
from sskd_core.evaluation.predictions import predict_split
from sskd_core.labels.sheet import spread_indices
from sskd_core.models.build import build_model
from sskd_core.models.detectron2_config import require_detectron2
from sskd_core.models.predict import make_predictor
from sskd_core.models.protocol import SegmentationModel, Teacher
from sskd_core.models.trained import default_device, load_trained
from sskd_core.reporting.results import MODELS as CAPTIONS
from sskd_core.stages.contract import StageContext, StageResult
from sskd_core.storage.digest import canonical_json
from sskd_core.storage.manifest import Manifest, ObjectRef
from sskd_core.storage.store import ObjectStore
from sskd_core.tracking.candidate import CHAMPION

ZERO_SHOT = "zero_shot_teacher"
_ADAPTED = "adapted_teacher"
MODELS = (ZERO_SHOT, _ADAPTED, "supervised_student", "distilled_student", "refined_student")
SHOWN_SCORE = 0.35
"""Instances below are not drawn; AP counts them all."""


@dataclass(frozen=True)
class Candidate:
    """A model to evaluate.

    Attributes:
        predictor: finds the instances.
        parameters: their number.
    """

    predictor: Teacher
    parameters: int


@dataclass(frozen=True)
class Evaluated:
    """What one model showed.

    Attributes:
        figures: its AP.
        parameters: their number.
        shown: its instances on the images of the overlays, by image id.
        matches: what it found on each image, kept so that models can be compared image by image.
        second: mask AP by another evaluator, if it was asked for.
    """

    figures: InstanceAP
    parameters: int
    shown: dict[str, list[Instance]]
    matches: SplitMatches
    second: SecondOpinion | None = None


LoadModel = Callable[[str, Mapping[str, Manifest], ObjectStore, EvaluateConfig], Candidate]


def run(
    config: EvaluateConfig,
    inputs: Mapping[str, Manifest],
    context: StageContext,
    load_model: LoadModel | None = None,
) -> StageResult:
    """Evaluate all models.

    Args:
        config: split, batch, limits.
        inputs: `data`, and a training stage's manifest under the name of each model that is measured; with an adapted
            teacher also the zero-shot one, which is built from the initial weights that its manifest records. With
            `champion`, the student that is to be beaten is measured, too.
        context: see `StageContext`.
        load_model: (name, inputs, store, config) -> model; default: the networks that the manifests name.

    Raises:
        UserError: a model was trained for other classes.
        ConfigError: a second opinion is asked for and detectron2 is not installed.
    """
    if config.second_opinion:
        require_detectron2()
    dataset = Dataset.load(inputs["data"], context.store)
    found = dict(_evaluate(config, inputs, context, dataset, load_model or load_network))
    metrics: dict[str, float] = {}
    for name, model in found.items():
        metrics |= {f"{name}/mask_ap": model.figures.mask_ap, f"{name}/mask_ap50": model.figures.mask_ap50}
        if model.second is not None:
            metrics[f"{name}/mask_ap_second_opinion"] = model.second.mask_ap
    return StageResult(
        outputs=[
            _write_results(config, found, context),
            *(_write_matches(name, model.matches, context) for name, model in found.items()),
            *_write_overlays(config, found, dataset, context),
        ],
        metrics=metrics,
        facts={
            "models": {name: model.parameters for name, model in found.items()},
            "split": config.split,
            "images": len(dataset.images(config.split)),
            "evaluator": evaluator_name(),
            "device": str(default_device()),
            "versions": {name: version(name) for name in ("torch", "transformers")},
        },
    )


def load_network(name: str, inputs: Mapping[str, Manifest], store: ObjectStore, config: EvaluateConfig) -> Candidate:
    """Build the network of a model on the best device there is."""
    model = _zero_shot(inputs, store) if name == ZERO_SHOT else load_trained(inputs[name], store)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return Candidate(make_predictor(model, max_instances=config.max_detections), parameters)


def _zero_shot(inputs: Mapping[str, Manifest], store: ObjectStore) -> SegmentationModel:
    """Build the teacher as its adaptation started with it."""
    adapted = inputs[_ADAPTED]
    config = validate(ModelConfig, adapted.config["model"], adapted.uri)
    model = build_model(config, list(inputs["data"].facts["classes"]), store, adapted.config["seed"])
    return model.eval().to(default_device())


def _evaluate(
    config: EvaluateConfig,
    inputs: Mapping[str, Manifest],
    context: StageContext,
    dataset: Dataset,
    load_model: LoadModel,
) -> Iterator[tuple[str, Evaluated]]:
    """Yield the models one by one, so that only one is in memory."""
    records, truth = dataset.images(config.split), dataset.ground_truth(config.split)
    shown = _shown_images(config, dataset)
    there = {*inputs, ZERO_SHOT} if _ADAPTED in inputs else set(inputs)
    models = [name for name in (*MODELS, CHAMPION) if name in there]
    total = len(models) * len(records)
    for number, name in enumerate(models):
        model = load_model(name, inputs, context.store, config)
        if list(model.predictor.classes) != dataset.classes:
            raise UserError(
                f"the {name} knows the classes {', '.join(model.predictor.classes)}, the data set has "
                f"{', '.join(dataset.classes)}; pass models that were trained on this data set"
            )

        def report(done: int, before: int = number * len(records)) -> None:
            context.progress.update(before + done, total, "images")

        found = predict_split(model.predictor.predict, records, dataset.read_image, config.batch, report)
        figures, matches = instance_ap_and_matches(truth, found, dataset.classes, config.max_detections)
        drawn = {image_id: found[image_id] for image_id in shown}
        second = None
        if config.second_opinion:
            second = detectron2_mask_ap(truth, found, dataset.classes, config.max_detections)
        yield name, Evaluated(figures, model.parameters, drawn, matches, second)


def _shown_images(config: EvaluateConfig, dataset: Dataset) -> list[str]:
    """Choose the images of the overlays: evenly over the split, so that no result decides which are seen."""
    records = dataset.images(config.split)
    return [records[index].image_id for index in spread_indices(len(records), config.overlay_images)]


def _write_results(config: EvaluateConfig, found: Mapping[str, Evaluated], context: StageContext) -> ObjectRef:
    document = {
        "split": config.split,
        "evaluator": evaluator_name(),
        "models": {name: _figures(model) for name, model in found.items()},
    }
    uri = f"{context.prefix}/evaluation.json"
    return context.store.put_output("evaluation", uri, canonical_json(document), "application/json")


def _figures(model: Evaluated) -> dict[str, Any]:
    second = {} if model.second is None else {"second_opinion": asdict(model.second)}
    return {**model.figures.to_dict(), "parameters": model.parameters, **second}


def _write_matches(name: str, matches: SplitMatches, context: StageContext) -> ObjectRef:
    uri = f"{context.prefix}/matches/{name}.parquet"
    return context.store.put_output(f"{MATCHES}{name}", uri, encode_matches(matches), MEDIA_TYPE)


def _write_overlays(
    config: EvaluateConfig, found: Mapping[str, Evaluated], dataset: Dataset, context: StageContext
) -> list[ObjectRef]:
    truth = dataset.ground_truth(config.split)
    records = {record.image_id: record for record in dataset.images(config.split)}
    written = []
    for number, image_id in enumerate(_shown_images(config, dataset)):
        panels = [("ground truth", truth[image_id].instances)]
        for name in drawn(found):
            panels.append((CAPTIONS[name], [item for item in found[name].shown[image_id] if item.score >= SHOWN_SCORE]))
        picture = draw_row(dataset.read_image(records[image_id]), panels, dataset.classes)
        uri = f"{context.prefix}/overlays/{number:02d}.png"
        written.append(context.store.put_output(f"overlays/{number:02d}", uri, picture, "image/png"))
    return written
