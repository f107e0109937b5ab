"""The training stages: `adapt_teacher`, `train_supervised`, `distill` and `refine`.

One function serves all four. They differ in what the configuration says (role, strategy) and in which manifests they
receive: `data` always, `labels` with stored pseudo-labels, `teacher` with an online one, `student` where training goes
on from a student.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from sskd_core.config.train import TrainConfig, TrainStageConfig
from sskd_core.data.dataset import Dataset
from sskd_core.data.loader import BatchLoader, LabeledExamples
from sskd_core.data.sampling import repeat_factors
from sskd_core.distributed import group
from sskd_core.errors import ConfigError
from sskd_core.labels.store import load_labels
from sskd_core.losses.choose import criterion_of
from sskd_core.models.build import build_model
from sskd_core.models.protocol import SegmentationModel
from sskd_core.models.trained import default_device, load_trained, save_trained
from sskd_core.stages.contract import StageContext, StageResult
from sskd_core.stages.teacher_student import teacher_student
from sskd_core.storage.manifest import Manifest, ObjectRef
from sskd_core.strategies.base import Strategy
from sskd_core.strategies.contrast import ContrastTerm
from sskd_core.strategies.semi_supervised import SemiSupervised
from sskd_core.strategies.supervised import Supervised
from sskd_core.training.checkpoint import CheckpointStore, Curves
from sskd_core.training.loop import Trainer
from sskd_core.training.validate import Validator


def run(config: TrainStageConfig, inputs: Mapping[str, Manifest], context: StageContext) -> StageResult:
    """Train and deliver a network; in one of several processes, which the leader alone writes for.

    Args:
        config: role, model, run, seed.
        inputs: `data` (prepare); `labels` (collected pseudo-labels) for the semi-supervised strategy; `teacher` (a
            training stage) for an online teacher; `student` (a training stage) to go on from its weights instead of the
            initial ones.
        context: see `StageContext`.

    Raises:
        ConfigError: the strategy needs labels or a teacher and there are none.
    """
    dataset = Dataset.load(inputs["data"], context.store)
    model = _initial_model(config, inputs, context, dataset.classes)
    checkpoints = CheckpointStore(context.store, context.prefix)
    strategy = _strategy(config, inputs, context, dataset, model)
    trainer = Trainer(
        model=model,
        strategy=strategy,
        config=config.train,
        seed=config.seed,
        validate=Validator(dataset.images("val"), dataset.ground_truth("val"), dataset.read_image),
        checkpoints=checkpoints,
        progress=context.progress,
        run=context.run,
        start_counts="student" in inputs,
    )
    outcome = trainer.fit()
    if not group.leads():
        return StageResult(outputs=[])
    outputs = save_trained(outcome.model, context.store, context.prefix)
    outputs.append(_write_curves(outcome.state.curves, context))
    return StageResult(
        outputs=outputs,
        metrics={"val_mask_ap": outcome.val_score},
        facts={
            "classes": dataset.classes,
            "role": config.role,
            "parameters": sum(parameter.numel() for parameter in outcome.model.parameters()),
            "iterations": config.train.iterations,
            "best_iteration": outcome.state.best_step,
            "device": str(default_device()),
            "processes": group.world(),
            **strategy.facts(),
        },
        licences=[config.model.licence],
        cleanup=checkpoints.discard,
    )


def _initial_model(
    config: TrainStageConfig, inputs: Mapping[str, Manifest], context: StageContext, classes: list[str]
) -> SegmentationModel:
    if "student" in inputs:
        return load_trained(inputs["student"], context.store)
    return build_model(config.model, classes, context.store, config.seed).to(default_device())


def _strategy(
    config: TrainStageConfig,
    inputs: Mapping[str, Manifest],
    context: StageContext,
    dataset: Dataset,
    model: SegmentationModel,
) -> Strategy:
    train = config.train
    contrast = None
    if train.lambda_pxl:
        contrast = ContrastTerm(model, train.contrast, train.lambda_pxl, train.iterations, config.seed)
    criterion = criterion_of(model, train.criterion)

    def loader(
        examples: LabeledExamples, batch: int, stream: str, frequencies: list[float] | None = None
    ) -> BatchLoader:
        return BatchLoader(
            examples, batch, config.model.input, train.augment, config.seed, stream, train.loader_workers, frequencies
        )

    annotated = LabeledExamples(dataset.images("labeled"), dataset.ground_truth("labeled"), dataset.read_image)
    labeled = loader(annotated, train.labeled_batch, "labeled", _frequencies(train, dataset))
    if train.strategy == "teacher_student":
        return teacher_student(config, inputs, context.store, dataset, model, criterion, labeled, loader)
    if train.strategy == "supervised":
        return Supervised(labeled, criterion, contrast)
    if "labels" not in inputs:
        raise ConfigError(
            "strategy 'semi_supervised' needs pseudo-labels; pass the manifest of pseudo_label as 'labels'"
        )
    labels = load_labels(inputs["labels"], context.store)
    pseudo = LabeledExamples(dataset.images("unlabeled"), labels, dataset.read_image)
    unlabeled = loader(pseudo, train.unlabeled_batch, "unlabeled")
    return SemiSupervised(labeled, unlabeled, criterion, train.lambda_semi, contrast)


def _frequencies(train: TrainConfig, dataset: Dataset) -> list[float] | None:
    """Return how often each labelled image is drawn."""
    if train.labeled_sampler == "uniform":
        return None
    truth = dataset.ground_truth("labeled")
    images = [truth[record.image_id].instances for record in dataset.images("labeled")]
    categories = [[item.category for item in instances if not item.is_crowd] for instances in images]
    return repeat_factors(categories, train.repeat_threshold)


def _write_curves(curves: Curves, context: StageContext) -> ObjectRef:
    data = json.dumps({"series": curves}, separators=(",", ":")).encode()
    return context.store.put_output("curves", f"{context.prefix}/curves.json", data, "application/json")
