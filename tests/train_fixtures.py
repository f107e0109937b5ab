"""Training stages on a small data set in the real store: what the tests of several stages share."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from engine_fixtures import model_config, train_config

from sskd_core.config.data import PrepareConfig
from sskd_core.config.train import TrainStageConfig
from sskd_core.data.dataset import Dataset
from sskd_core.data.masks import encode_mask, mask_area, mask_bbox
from sskd_core.data.records import Instance, LabeledImage
from sskd_core.labels.schema import encode_shard
from sskd_core.progress import Progress
from sskd_core.stages import prepare, train
from sskd_core.stages.contract import StageContext, execute, stage_fingerprint, stage_prefix
from sskd_core.storage.manifest import Manifest
from sskd_core.storage.store import ObjectStore
from sskd_core.tracking.run import NullRun
from tests.micro import micro_data


def stage_config(role="student", family="dinov2_dpt", **values) -> TrainStageConfig:
    values = {"iterations": 4, "val_every": 2, **values}
    return TrainStageConfig(role=role, model=model_config(family, licence="Apache-2.0"), train=train_config(**values))


class Stages:
    """Runs stages in one store."""

    def __init__(self, store: ObjectStore, workdir: Path) -> None:
        self.store, self.workdir = store, workdir

    def context(self, stage: str, config, inputs, run=None) -> StageContext:
        """Return the context of a stage, as `run_node` makes it."""
        identity = stage_fingerprint(stage, config, inputs)
        progress = Progress(stage, self.workdir / "progress")
        prefix = stage_prefix(self.store, stage, identity)
        return StageContext(self.store, run or NullRun(), progress, prefix, self.workdir, identity)

    def train(self, config, inputs, stage="distill", run=None) -> Manifest:
        """Train through the contract."""
        return execute(stage, train.run, config, inputs, self.context(stage, config, inputs, run))

    def checkpoints(self, stage: str = "distill") -> list[str]:
        """Return the names of the checkpoint objects that are there."""
        names = [item.uri.rsplit("/", 2)[1:] for item in self.store.list(f"{self.store.root}/stages/{stage}")]
        return [name for folder, name in names if folder == "checkpoint"]


@pytest.fixture
def stages(store: ObjectStore, tmp_path: Path) -> Stages:
    return Stages(store, tmp_path)


@pytest.fixture
def data(stages: Stages) -> Manifest:
    """The manifest of a prepared data set."""
    config = PrepareConfig(data=micro_data(stages.store))
    return execute("prepare", prepare.run, config, {}, stages.context("prepare", config, {}))


@pytest.fixture
def labels(data: Manifest, stages: Stages) -> Manifest:
    """Pseudo-labels: a square in the middle of every unlabelled image but the first."""
    images = []
    for number, record in enumerate(Dataset.load(data, stages.store).images("unlabeled")):
        mask = torch.zeros(record.height, record.width, dtype=torch.bool)
        mask[20:60, 30:80] = True
        rle = encode_mask(mask.numpy())
        found = Instance(1, rle, score=0.9, bbox=mask_bbox(rle), area=float(mask_area(rle)))
        images.append(LabeledImage(record.image_id, record.width, record.height, [found] if number else []))
    uri = f"{stages.store.root}/stages/pseudo_label/x"
    shard = stages.store.put_output("shards/00000", f"{uri}/0.parquet", encode_shard(images, labeller="test"))
    own = {"stage": "pseudo_label", "outputs": [shard], "uri": f"{uri}/manifest.json", "licences": ["CC0-1.0"]}
    return data.model_copy(update=own)
