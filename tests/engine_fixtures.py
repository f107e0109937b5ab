"""Tiny networks, rendered examples and records that the tests of the engine share."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sskd_core.config.model import InputConfig, ModelConfig
from sskd_core.config.train import OptimizerConfig, SetCriterionConfig, TrainConfig
from sskd_core.data.loader import BatchLoader, Example
from sskd_core.data.masks import encode_mask, mask_area, mask_bbox
from sskd_core.data.records import ImageRecord, Instance, LabeledImage
from sskd_core.models.build import construct
from sskd_core.models.protocol import SegmentationModel
from sskd_core.models.trained import save_trained
from sskd_core.storage.digest import digest_json
from sskd_core.storage.manifest import Manifest
from sskd_core.storage.store import ObjectStore

CLASSES = ["disc", "box", "star"]
INPUT = InputConfig(height=32, width=64)
STUDENT_ARCH: dict[str, Any] = {
    "patch_size": 8,
    "embed_dim": 16,
    "depth": 4,
    "heads": 2,
    "pretrain_size": 32,
    "taps": [1, 2, 3, 4],
    "neck_sizes": [8, 8, 16, 16],
    "decoder_dim": 16,
    "decoder_layers": 2,
    "decoder_heads": 2,
    "decoder_ffn": 32,
    "num_queries": 6,
}
TEACHER_ARCH: dict[str, Any] = {
    "backbone_config": {
        "model_type": "swin",
        "embed_dim": 16,
        "depths": [1, 1, 1, 1],
        "num_heads": [1, 1, 2, 2],
        "window_size": 4,
        "image_size": 64,
        "out_features": ["stage1", "stage2", "stage3", "stage4"],
    },
    "feature_size": 32,
    "mask_feature_size": 32,
    "hidden_dim": 32,
    "encoder_layers": 1,
    "encoder_feedforward_dim": 32,
    "decoder_layers": 3,
    "num_attention_heads": 2,
    "dim_feedforward": 32,
    "num_queries": 6,
}
ARCHES = {"dinov2_dpt": STUDENT_ARCH, "mask2former": TEACHER_ARCH}


def model_config(family: str = "dinov2_dpt", **values: Any) -> ModelConfig:
    """Return the configuration of a tiny network."""
    return ModelConfig(**{"family": family, "arch": ARCHES[family], "input": INPUT, **values})


def tiny_model(family: str = "dinov2_dpt", classes: list[str] | None = None, seed: int = 0) -> SegmentationModel:
    """Build a tiny network with random values."""
    return construct(model_config(family), CLASSES if classes is None else classes, seed)


def pixels(batch: int = 2, seed: int = 0) -> Tensor:
    """Return random network input, [batch, 3, 32, 64]."""
    return torch.randn(batch, 3, INPUT.height, INPUT.width, generator=torch.Generator().manual_seed(seed))


def final_logits(model: SegmentationModel, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Return the class and mask logits of the last depth, in eval mode."""
    with torch.no_grad():
        output = model.eval()(inputs)
    return output.class_logits[-1], output.mask_logits[-1]


@dataclass
class Rectangles:
    """Images of 24 x 48 pixels with up to three rectangles whose colour is their class; implements `Examples`."""

    count: int = 5
    height: int = 24
    width: int = 48

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Example:
        rng = np.random.default_rng(index)
        image = rng.integers(0, 30, (self.height, self.width, 3)).astype(np.uint8)
        number = index % 4
        masks = np.zeros((number, self.height, self.width), dtype=np.bool_)
        labels = [int(rng.integers(len(CLASSES))) for _ in range(number)]
        for place, label in enumerate(labels):
            masks[place, 4:16, 1 + 16 * place : 12 + 16 * place] = True
            image[masks[place], label] = 220
        return Example(image, labels, masks)

    def record(self, index: int) -> ImageRecord:
        """Return the record of an image; its id is its number."""
        return ImageRecord(str(index), f"s3://rectangles/{index}", "", 0, self.width, self.height)

    def records(self) -> list[ImageRecord]:
        """Return the records of all images."""
        return [self.record(index) for index in range(self.count)]

    def read(self, record: ImageRecord) -> NDArray[np.uint8]:
        """Return the pixels of a record."""
        return self[int(record.image_id)].image

    def truth(self) -> dict[str, LabeledImage]:
        """Return the annotations by image id."""
        return {str(index): labeled_image(str(index), self[index]) for index in range(self.count)}


def labeled_image(image_id: str, example: Example) -> LabeledImage:
    """Encode the annotation of an example."""
    instances = []
    for label, mask in zip(example.labels, example.masks, strict=True):
        rle = encode_mask(mask)
        instances.append(Instance(label, rle, bbox=mask_bbox(rle), area=float(mask_area(rle))))
    return LabeledImage(image_id, *reversed(example.image.shape[:2]), instances)


def train_config(**values: Any) -> TrainConfig:
    """Return a short supervised run on the tiny networks."""
    defaults: dict[str, Any] = {
        "iterations": 6,
        "labeled_batch": 2,
        "unlabeled_batch": 0,
        "optimizer": OptimizerConfig(lr=1e-3),
        "criterion": SetCriterionConfig(num_points=48),
        "val_every": 3,
        "log_every": 1,
    }
    return TrainConfig(**{**defaults, **values})


def batch_loader(config: TrainConfig, examples: Rectangles | None = None, stream: str = "labeled") -> BatchLoader:
    """Return a loader of rectangles for a run."""
    return BatchLoader(examples or Rectangles(), config.labeled_batch, INPUT, config.augment, seed=0, stream=stream)


def delivered(model: SegmentationModel, store: ObjectStore) -> Manifest:
    """Save a network and return the manifest of a stage that did."""
    prefix = f"{store.root}/stages/distill/x"
    return Manifest(
        stage="distill",
        fingerprint=digest_json("x"),
        outputs=save_trained(model, store, prefix),
        config_digest=digest_json({}),
        code_digest=digest_json({}),
        created=dt.datetime(2026, 1, 1, tzinfo=dt.UTC),
        uri=f"{prefix}/manifest.json",
    )
