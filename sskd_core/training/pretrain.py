"""Pre-training of the small weights that the package ships, on rendered scenes of the source domain alone.

They stand in for a foundation model at the scale of a laptop: competent on their own domain, weaker on the user's.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from sskd_core.config.pretrain import PretrainConfig
from sskd_core.data.loader import BatchLoader, Example
from sskd_core.data.masks import encode_mask
from sskd_core.data.preprocess import to_pixels
from sskd_core.data.records import ImageRecord, Instance, LabeledImage
from sskd_core.data.scenes import CLASSES, HEIGHT, WIDTH, Domain, Scene, render_scene
from sskd_core.evaluation.instance_ap import evaluator_name
from sskd_core.losses.dense import dense_targets
from sskd_core.losses.set_criterion import SetCriterion
from sskd_core.models.build import construct
from sskd_core.models.dense_encoder import STRIDE, DenseEncoder, cell_accuracy
from sskd_core.models.protocol import SegmentationModel
from sskd_core.models.trained import default_device, model_card
from sskd_core.progress import Progress
from sskd_core.storage.store import ObjectStore
from sskd_core.strategies.base import Strategy
from sskd_core.strategies.dense import DensePretraining
from sskd_core.strategies.supervised import Supervised
from sskd_core.tracking.run import NullRun
from sskd_core.training.checkpoint import CheckpointStore
from sskd_core.training.loop import Outcome, Trainer
from sskd_core.training.validate import Validator


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
    task = _whole_network(config, loader) if config.deliver == "model" else _encoder(config, loader)
    trainer = Trainer(
        model=task.model.to(default_device()),
        strategy=task.strategy,
        config=train,
        seed=config.seed,
        validate=task.validate,
        checkpoints=CheckpointStore(store, prefix),
        progress=progress,
        run=NullRun(),
        metric=task.metric,
    )
    return trainer.fit()


@dataclass(frozen=True)
class _Task:
    """What is trained, how, and how it is scored."""

    model: SegmentationModel
    strategy: Strategy
    validate: Callable[[SegmentationModel], float]
    metric: str


def _whole_network(config: PretrainConfig, loader: BatchLoader) -> _Task:
    return _Task(
        model=construct(config.model, list(CLASSES), config.seed),
        strategy=Supervised(loader, SetCriterion(config.train.criterion)),
        validate=scene_validator(config.seed, "source", config.val_scenes),
        metric="mask_ap",
    )


def _encoder(config: PretrainConfig, loader: BatchLoader) -> _Task:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = DenseEncoder(config.model, list(CLASSES))
    pixels, category = _held_out_cells(config)

    def validate(trained: SegmentationModel) -> float:
        assert isinstance(trained, DenseEncoder)
        return cell_accuracy(trained, pixels.to(default_device()), category.to(default_device()))

    return _Task(model, DensePretraining(loader), validate, "cell_accuracy")


def _held_out_cells(config: PretrainConfig) -> tuple[Tensor, Tensor]:
    """Return normalised pixels and class maps of scenes that no training sees."""
    size = config.model.input
    scenes = SceneExamples(config.seed, "source", "pretrain-val", config.val_scenes)
    examples = [scenes[index] for index in range(config.val_scenes)]
    pixels = np.stack([to_pixels(example.image, size.mean, size.std) for example in examples])
    labels = [torch.tensor(example.labels, dtype=torch.int64) for example in examples]
    masks = [torch.from_numpy(example.masks).float() for example in examples]
    return torch.from_numpy(pixels), dense_targets(labels, masks, len(CLASSES), STRIDE)[0]


def deliver(config: PretrainConfig, outcome: Outcome, command: str, folder: Path) -> None:
    """Write the weights as a folder that `models.weights` reads, with a card that says how they came to be.

    Args:
        config: the run.
        outcome: its result.
        command: the exact command line, for the card.
        folder: created; files in it are replaced.
    """
    folder.mkdir(parents=True, exist_ok=True)
    model = outcome.model
    part = model if config.deliver == "model" else model.encoder_module()
    tensors = {name: _stored(value) for name, value in part.state_dict().items()}
    save_file(tensors, folder / "model.safetensors")
    document = model_card(model) | {"part": config.deliver}
    (folder / "model.safetensors").chmod(0o644)
    (folder / "config.json").write_text(json.dumps(document, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    (folder / "curve.json").write_text(json.dumps({"series": _thinned(config, outcome)}) + "\n", encoding="utf-8")
    (folder / "README.md").write_text(_card(config, outcome, command, tensors), encoding="utf-8")


def _stored(value: Tensor) -> Tensor:
    """Half precision: half the size, and less than the noise of one training step."""
    value = value.detach().cpu().contiguous()
    return value.half() if value.is_floating_point() else value


def _metric(config: PretrainConfig) -> str:
    return "mask_ap" if config.deliver == "model" else "cell_accuracy"


def _thinned(config: PretrainConfig, outcome: Outcome) -> dict[str, list[tuple[int, float]]]:
    series, metric = outcome.state.curves, f"val/{_metric(config)}"
    return {
        "loss/total": [(step, round(value, 3)) for step, value in series["loss/total"][::4]],
        metric: [(step, round(value, 2)) for step, value in series[metric]],
    }


def _card(config: PretrainConfig, outcome: Outcome, command: str, tensors: dict[str, Tensor]) -> str:
    count = sum(value.numel() for value in tensors.values())
    whole, metric = config.deliver == "model", _metric(config)
    rows = "\n".join(f"| {step} | {value:.1f} |" for step, value in outcome.state.curves[f"val/{metric}"])
    if whole:
        target = scene_validator(config.seed, "target", config.val_scenes)(outcome.model)
        result = (
            f"{outcome.val_score:.1f} mask AP on {config.val_scenes} source scenes that it did not train on, "
            f"{target:.1f} on as many of the target domain ({evaluator_name()}, one seed)."
        )
    else:
        result = (
            f"under a dense head that is thrown away, {outcome.val_score:.1f} % of the object cells of "
            f"{config.val_scenes} source scenes that it did not train on get the right class (one seed)."
        )
    return _CARD.format(
        part="Whole network" if whole else "Encoder alone",
        family=config.model.family,
        count=f"{count:,}",
        command=command,
        seed=config.seed,
        scenes=config.scenes,
        iterations=config.train.iterations,
        batch=config.train.labeled_batch,
        result=result,
        metric=metric,
        torch=torch.__version__,
        licence=config.model.licence,
        rows=rows,
    )


_CARD = """# Pre-trained weights

{part} of family `{family}`, {count} parameters in half precision, licence {licence}.

- **Data**: {scenes} rendered scenes of the *source* domain (`sskd_core/data/scenes.py`, seed {seed}), objects on crops
  of the two photographs that scikit-learn ships. No scene of the target domain, to which the demo adapts.
- **Command**: `{command}`
- **Run**: {iterations} iterations, batch {batch}, seed {seed}, torch {torch}, CPU.
- **Result**: {result}

| iteration | source val {metric} |
|---|---|
{rows}
"""
