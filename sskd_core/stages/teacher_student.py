"""What the strategy `teacher_student` needs of a run: the teacher, the unlabelled images, and the rules for labels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy

import torch
from torch import Tensor

from sskd_core.config.model import REGION_FAMILIES
from sskd_core.config.teaching import TeachingConfig
from sskd_core.config.train import TrainStageConfig
from sskd_core.data.dataset import Dataset
from sskd_core.data.loader import BatchLoader, LabeledExamples
from sskd_core.data.records import LabeledImage
from sskd_core.errors import ConfigError, DataError
from sskd_core.labels.online import OnlineFilter
from sskd_core.labels.store import load_labels
from sskd_core.losses.set_criterion import SetCriterion
from sskd_core.models.protocol import SegmentationModel
from sskd_core.models.trained import load_trained
from sskd_core.storage.manifest import Manifest
from sskd_core.storage.store import ObjectStore
from sskd_core.strategies.teacher import OnlineTeacher, check_same_network
from sskd_core.strategies.teacher_student import Labeller, StoredLabels, TeachersLabels, TeacherStudent


def teacher_student(
    config: TrainStageConfig,
    inputs: Mapping[str, Manifest],
    store: ObjectStore,
    dataset: Dataset,
    model: SegmentationModel,
    criterion: SetCriterion,
    labeled: BatchLoader,
    loader: Callable[[LabeledExamples, int, str], BatchLoader],
) -> TeacherStudent:
    """Make the strategy.

    Args:
        config: of the stage, with `train.teaching`.
        inputs: `teacher` (a training stage) where a trained one is asked for; `labels` (collected pseudo-labels) where
            stored ones are.
        store: where both lie.
        dataset: its unlabelled images, and its labelled ones if they count as unlabelled, too.
        model: the student, on its device.
        criterion: the set loss.
        labeled: batches with annotations.
        loader: (examples, batch, stream) -> loader.

    Raises:
        ConfigError: an input is missing, or teacher and student do not fit together.
        DataError: there is no unlabelled image.
    """
    teaching = config.train.teaching
    assert teaching is not None
    _require_queries("student", config.model.family)
    batch = config.train.unlabeled_batch
    if not teaching.unlabeled_used:
        return TeacherStudent(labeled, None, criterion, teaching, StoredLabels(), None, config.seed)
    labeller: Labeller = StoredLabels()
    teacher = None
    if teaching.labels == "shards":
        if "labels" not in inputs:
            raise ConfigError("teaching.labels 'shards' need the manifest of pseudo_label as 'labels'")
        examples = _examples(dataset, "complement", load_labels(inputs["labels"], store))
    else:
        patience = teaching.filter.patience_in(config.train.iterations)
        teacher = OnlineTeacher(_initial_teacher(teaching, inputs, store, dataset, model), teaching, patience)
        keep = OnlineFilter(teaching.filter, dataset.classes)
        labeller = TeachersLabels(teacher, keep, _prior(dataset))
        examples = _examples(dataset, teaching.unlabeled_set, None)
    unlabeled = loader(examples, batch, "unlabeled")
    return TeacherStudent(labeled, unlabeled, criterion, teaching, labeller, teacher, config.seed)


def _initial_teacher(
    teaching: TeachingConfig,
    inputs: Mapping[str, Manifest],
    store: ObjectStore,
    dataset: Dataset,
    student: SegmentationModel,
) -> SegmentationModel:
    if teaching.teacher != "checkpoint":
        return deepcopy(student)
    if "teacher" not in inputs:
        raise ConfigError("teaching.teacher 'checkpoint' needs the manifest of a training stage as 'teacher'")
    manifest = inputs["teacher"]
    known = list(manifest.facts["classes"])
    if known != dataset.classes:
        raise ConfigError(
            f"the teacher knows {len(known)} classes ({', '.join(known)}), the data set has {len(dataset.classes)} "
            f"({', '.join(dataset.classes)}); train it on this data set: {manifest.uri}"
        )
    teacher = load_trained(manifest, store)
    _require_queries("teacher", teacher.config.family)
    if teaching.is_written:
        check_same_network(teacher, student)
    return teacher


def _require_queries(role: str, family: str) -> None:
    if family in (*REGION_FAMILIES, "grounded_sam"):
        raise ConfigError(
            f"a {role} of family {family} predicts no queries, which strategy 'teacher_student' is about; label with "
            "pseudo_label and set strategy: semi_supervised"
        )


def _examples(dataset: Dataset, which: str, labels: Mapping[str, LabeledImage] | None) -> LabeledExamples:
    """Return the unlabelled images, with stored labels or with none."""
    records = dataset.images("unlabeled") + (dataset.images("labeled") if which == "all" else [])
    if not records:
        raise DataError(
            "no unlabelled image for the student to learn from; check data.unlabeled, or set recipe: supervised"
        )
    if labels is None:
        labels = {item.image_id: LabeledImage(item.image_id, item.width, item.height) for item in records}
    return LabeledExamples(records, labels, dataset.read_image)


def _prior(dataset: Dataset) -> Tensor | None:
    """Return the share of each class among the annotated instances, [C]."""
    counts = torch.tensor([float(dataset.class_histogram.get(name, 0)) for name in dataset.classes])
    return counts / counts.sum() if counts.sum() else None
