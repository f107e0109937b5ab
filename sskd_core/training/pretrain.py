"""Pre-training of the small weights that the package ships, on rendered scenes of the source domain alone.

They stand in for a foundation model at the scale of a laptop: competent on their own domain, weaker on the user's.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from sskd_core.config.base import StrictModel
from sskd_core.config.model import ModelConfig
from sskd_core.config.train import TrainConfig
from sskd_core.data.loader import BatchLoader, Example
from sskd_core.data.masks import encode_mask
from sskd_core.data.records import ImageRecord, Instance, LabeledImage
from sskd_core.data.scenes import CLASSES, HEIGHT, WIDTH, Domain, Scene, render_scene
from sskd_core.losses.set_criterion import SetCriterion
from sskd_core.models.build import construct
from sskd_core.models.trained import default_device
from sskd_core.progress import Progress
from sskd_core.storage.store import ObjectStore
from sskd_core.strategies.supervised import Supervised
from sskd_core.tracking.run import NullRun
from sskd_core.training.checkpoint import CheckpointStore
from sskd_core.training.loop import Outcome, Trainer
from sskd_core.training.validate import Validator


class PretrainConfig(StrictModel):
    """One pre-training run.

    `deliver` is the part of the network that is shipped: all of it (a teacher) or its encoder (a student).
    """

    model: ModelConfig
    train: TrainConfig
    deliver: Literal["model", "encoder"]
    seed: int = 0
    scenes: int = 6000
    val_scenes: int = 100


@dataclass
class SceneExamples:
    """Rendered scenes as training examples, kept once rendered."""

    seed: int
    domain: Domain
    split: str
    count: int

    def __post_init__(self) -> None:
        self._scenes: dict[int, Scene] = {}

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Example:
        if index not in self._scenes:
            self._scenes[index] = render_scene(self.seed, self.domain, self.split, index)
        scene = self._scenes[index]
        masks = np.stack(scene.masks) if scene.masks else np.zeros((0, HEIGHT, WIDTH), np.bool_)
        return Example(scene.image, scene.categories, masks)


def scene_validator(seed: int, domain: Domain, count: int) -> Validator:
    """Return the evaluation on `count` scenes of a domain that no training sees."""
    scenes = SceneExamples(seed, domain, "pretrain-val", count)
    records = [ImageRecord(str(i), "s3://scenes/none", "", 0, WIDTH, HEIGHT) for i in range(count)]
    truth = {}
    for index in range(count):
        example = scenes[index]
        pairs = zip(example.labels, example.masks, strict=True)
        instances = [Instance(label, encode_mask(mask), area=float(mask.sum())) for label, mask in pairs]
        truth[str(index)] = LabeledImage(str(index), WIDTH, HEIGHT, instances)
    return Validator(records, truth, lambda record: scenes[int(record.image_id)].image)


def pretrain(config: PretrainConfig, store: ObjectStore, prefix: str, progress: Progress) -> Outcome:
    """Train on the source domain, resumable from checkpoints below `prefix`."""
    examples = SceneExamples(config.seed, "source", "pretrain", config.scenes)
    train = config.train
    loader = BatchLoader(examples, train.labeled_batch, config.model.input, train.augment, config.seed, "pretrain")
    trainer = Trainer(
        model=construct(config.model, list(CLASSES), config.seed).to(default_device()),
        strategy=Supervised(loader, SetCriterion(train.criterion)),
        config=train,
        seed=config.seed,
        validate=scene_validator(config.seed, "source", config.val_scenes),
        checkpoints=CheckpointStore(store, prefix),
        progress=progress,
        run=NullRun(),
    )
    return trainer.fit()


def write_curve(outcome: Outcome, path: Path) -> None:
    """Save the curves as JSON beside the weights."""
    path.write_text(json.dumps({"series": outcome.state.curves}), encoding="utf-8")
