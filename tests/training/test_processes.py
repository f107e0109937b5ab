"""Training in two real processes: a step is that of one process with the whole batch, and a run can change between."""

from __future__ import annotations

import os
import signal
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.multiprocessing
from engine_fixtures import CLASSES, TEACHER_ARCH, Rectangles, batch_loader, model_config, train_config
from grounding_fixtures import SIZE, tiny_teacher
from ranks import leave, left, run_ranks
from torch import Tensor

from sskd_core.config.storage import StorageConfig
from sskd_core.config.train import SetCriterionConfig, TrainConfig
from sskd_core.distributed import group
from sskd_core.errors import Interrupted
from sskd_core.losses.grounding import GroundingCriterion
from sskd_core.losses.set_criterion import SetCriterion, Target
from sskd_core.models.build import construct
from sskd_core.models.protocol import QueryOutput, SegmentationModel
from sskd_core.progress import Progress
from sskd_core.storage.store import ObjectStore
from sskd_core.strategies.base import Strategy
from sskd_core.strategies.contrast import ContrastTerm
from sskd_core.strategies.semi_supervised import SemiSupervised
from sskd_core.tracking.run import NullRun
from sskd_core.training.checkpoint import CheckpointStore
from sskd_core.training.loop import Trainer
from sskd_core.training.processes import computation

FAMILIES = ("dinov2_dpt", "mask2former")
# Masks are compared at more points than one block of masks draws, and pixels at more rows.
CONTRAST = {"feature_level": 1, "num_negatives": 5, "memory_mb": 1}


def network(family: str) -> SegmentationModel:
    """Return a tiny network that draws nothing itself: draws of its own differ between processes."""
    backbone = {**TEACHER_ARCH["backbone_config"], "drop_path_rate": 0.0}
    arch = {"arch": {**TEACHER_ARCH, "backbone_config": backbone}} if family == "mask2former" else {}
    return construct(model_config(family, **arch), CLASSES, 0)


def contrast_of(family: str) -> dict[str, Any]:
    """Draw the untrained student's negatives uniformly: its pixels are alike but for rounding, which would choose."""
    return {"negatives": "uniform"} if family == "dinov2_dpt" else {}


def config_of(**values: Any) -> TrainConfig:
    own = {"labeled_batch": 4, "unlabeled_batch": 2, "strategy": "semi_supervised", "lambda_pxl": 0.1}
    contrast = {**CONTRAST, **values.pop("contrast", {})}
    return train_config(**{**own, "contrast": contrast, "select": "last", "val_every": 100, **values})


def strategy_of(config: TrainConfig, model: SegmentationModel) -> SemiSupervised:
    few = config.model_copy(update={"labeled_batch": config.unlabeled_batch})
    unlabeled = batch_loader(few, Rectangles(4), stream="unlabeled")
    term = ContrastTerm(model, config.contrast, config.lambda_pxl, config.iterations, seed=0)
    return SemiSupervised(batch_loader(config), unlabeled, SetCriterion(config.criterion), 0.5, term)


def step_of(family: str, **values: Any) -> dict[str, Tensor]:
    """Return terms, gradients and buffers of a first step.

    In double precision: an untrained network's pixels are so alike that negatives would hang on how the processor
    rounds a convolution, which may depend on the batch.
    """
    contrast = {**contrast_of(family), **values.pop("contrast", {})}
    config, model = config_of(contrast=contrast, **values), network(family).double()
    encode = model.encode
    model.encode = lambda pixels: encode(pixels.double())
    strategy = strategy_of(config, model)
    strategy.extra.double()
    compute = computation(model, strategy.extra)
    model.train()
    torch.manual_seed(7)
    terms, total = compute(lambda: strategy.step(model, 0))
    total.backward()
    found = {f"loss/{name}": value.detach() for name, value in terms.losses.items()}
    for part, module in (("model", model), ("extra", strategy.extra)):
        grads = {name: parameter.grad for name, parameter in module.named_parameters() if parameter.grad is not None}
        found |= {f"grad/{part}/{name}": value for name, value in grads.items()}
    return found | {f"buffer/{name}": value for name, value in model.named_buffers()}


def losses_without_instance_in_front() -> dict[str, Tensor]:
    """Return the set loss of four images of which the first two are empty, and its gradient."""
    generator = torch.Generator().manual_seed(0)
    classes = [torch.randn(4, 6, 4, generator=generator) for _ in range(2)]
    masks = [torch.randn(4, 6, 8, 16, generator=generator) for _ in range(2)]
    targets = [
        Target(torch.arange(count) % 3, (torch.rand(count, 32, 64, generator=generator) > 0.5).float())
        for count in (0, 0, 2, 3)
    ]
    part = group.own_part(4, "batch")
    own = [item[part].clone().requires_grad_() for item in (*classes, *masks)]
    torch.manual_seed(3)
    losses = SetCriterion(SetCriterionConfig(num_points=48))(QueryOutput(own[:2], own[2:], []), targets[part])
    sum(losses.values()).backward()
    found = {name: group.total(value.detach()) for name, value in losses.items()}
    return found | {f"rows/{number}": item.grad for number, item in enumerate(own)}


def grounded_losses(parts: tuple[Path, Path], empty_first: bool) -> dict[str, Tensor]:
    """Return the grounded teacher's terms on two images; SAM's decoder learns too."""
    teacher = tiny_teacher(*parts, train_mask_decoder=True, decoder_instances=1)
    images = torch.randn(2, 3, SIZE.height, SIZE.width, generator=torch.Generator().manual_seed(0))
    masks = torch.zeros(3, SIZE.height, SIZE.width)
    for number, mask in enumerate(masks):
        mask[4 + 8 * number : 40, 8 : 30 + 12 * number] = 1.0
    counts = (0, 3) if empty_first else (1, 2)
    ends = (counts[0], 3)
    targets = [
        Target(torch.arange(3)[end - count : end], masks[end - count : end])
        for count, end in zip(counts, ends, strict=True)
    ]
    part = group.own_part(2, "batch")
    torch.manual_seed(5)
    losses = GroundingCriterion(SetCriterionConfig(num_points=64))(teacher(images[part]), targets[part])
    return {name: group.total(value.detach()) for name, value in losses.items()}


@dataclass
class Stopping(Strategy):
    """A strategy that kills its process at a step, or asks one process to stop."""

    inner: SemiSupervised
    at: int | None
    number: signal.Signals = signal.SIGTERM
    ranks: tuple[int, ...] = (0, 1)
    steps: list[int] = field(default_factory=list)

    @property
    def extra(self):
        return self.inner.extra

    def step(self, model, step):
        self.steps.append(step)
        if step == self.at and group.rank() in self.ranks:
            os.kill(os.getpid(), self.number)
        return self.inner.step(model, step)

    def close(self):
        self.inner.close()


def trainer_at(storage: StorageConfig, place: str, at: int | None = None, **values: Any) -> Trainer:
    """Return a run of six steps, whose checkpoints are at a place."""
    config, model = (
        config_of(contrast=contrast_of("dinov2_dpt"), ema_decay=0.9, checkpoint_seconds=0.0),
        network("dinov2_dpt"),
    )
    store = ObjectStore(storage)
    return Trainer(
        model=model,
        strategy=Stopping(strategy_of(config, model), at, **values),
        config=config,
        seed=0,
        validate=lambda trained: float(sum(item.detach().double().abs().sum() for item in trained.parameters())),
        checkpoints=CheckpointStore(store, f"{store.root}/{place}"),
        progress=Progress("distill"),
        run=NullRun(),
    )


def fit(trainer: Trainer) -> dict[str, Tensor]:
    """Train to the end; return weights, average and curves."""
    outcome = trainer.fit()
    found = {f"model/{name}": value for name, value in trainer._model.state_dict().items()}
    found |= {f"average/{name}": value for name, value in outcome.model.state_dict().items()}
    curves = {name: torch.tensor([value for _, value in points]) for name, points in outcome.state.curves.items()}
    return (
        found
        | {f"curve/{name}": values for name, values in curves.items()}
        | {"score": torch.tensor(outcome.val_score)}
    )


def die_together(storage: StorageConfig) -> None:
    trainer_at(storage, "killed", at=3, number=signal.SIGKILL).fit()


def use_processes(folder: Path, storage: StorageConfig, parts: tuple[Path, Path]) -> None:
    found = {}
    for empty_first in (False, True):
        losses = grounded_losses(parts, empty_first)
        found |= {f"grounded {empty_first}/{name}": value for name, value in losses.items()}
    for family in FAMILIES:
        found |= {f"{family}/{name}": value for name, value in step_of(family).items()}
    found |= {f"apart/{name}": value for name, value in step_of("dinov2_dpt", contrast={"per_process": True}).items()}
    found |= {f"empty/{name}": value for name, value in losses_without_instance_in_front().items()}
    found |= {f"whole/{name}": value for name, value in fit(trainer_at(storage, "whole")).items()}
    found |= {f"killed/{name}": value for name, value in fit(trainer_at(storage, "killed")).items()}
    for place in ("stopped", "handed over"):
        stopped = trainer_at(storage, place, at=2, ranks=(1,))
        with pytest.raises(Interrupted):
            stopped.fit()
        found[f"{place} after"] = torch.tensor(stopped._state.step)
    found |= {f"stopped/{name}": value for name, value in fit(trainer_at(storage, "stopped")).items()}
    found |= {f"taken over/{name}": value for name, value in fit(trainer_at(storage, "alone")).items()}
    leave(folder, found)


@dataclass
class Runs:
    """What two processes found, and where their checkpoints are."""

    ranks: list[dict[str, Tensor]]
    storage: StorageConfig

    def of(self, name: str, rank: int = 0) -> dict[str, Tensor]:
        """Return what is below a name."""
        found = self.ranks[rank].items()
        return {key.removeprefix(f"{name}/"): value for key, value in found if key.startswith(f"{name}/")}


@pytest.fixture(scope="module")
def runs(tmp_path_factory, s3_endpoint, teacher_parts) -> Runs:
    folder = tmp_path_factory.mktemp("ranks")
    storage = s3_endpoint.model_copy(update={"root": f"{s3_endpoint.root}/test-{uuid.uuid4().hex}"})
    with pytest.raises(Interrupted):
        trainer_at(storage, "alone", at=2, ranks=(0,)).fit()
    with pytest.raises(torch.multiprocessing.ProcessExitedException, match="SIGKILL"):
        run_ranks(die_together, storage)
    run_ranks(use_processes, folder, storage, teacher_parts)
    return Runs(left(folder), storage)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_step_of_two_processes_is_that_of_one_with_the_whole_batch(runs, family):
    alone, together = step_of(family), runs.of(family)
    assert together.keys() == alone.keys()
    terms = [name for name in alone if name.startswith("loss/")]
    assert {"loss/sup_mask", "loss/semi_dice", "loss/pxl"} <= set(terms)
    for name in terms:
        assert float(together[name]) == pytest.approx(float(alone[name]), rel=1e-6), name
    for name in alone.keys() - set(terms):
        assert torch.allclose(together[name], alone[name], rtol=1e-4, atol=1e-5), name


def test_negatives_of_a_process_alone_change_the_contrastive_term_and_no_other(runs):
    whole, apart = runs.of("dinov2_dpt"), runs.of("apart")
    changed = [name for name in whole if name.startswith("loss/") and float(whole[name]) != float(apart[name])]
    assert changed == ["loss/pxl"]


def test_a_process_without_an_instance_takes_its_share(runs):
    alone, together = losses_without_instance_in_front(), runs.of("empty")
    for name in ("class", "mask", "dice"):
        assert float(together[name]) == pytest.approx(float(alone[name]), rel=1e-6)
    for number in range(4):
        rows = torch.cat([runs.of("empty", rank)[f"rows/{number}"] for rank in (0, 1)])
        assert torch.allclose(rows, alone[f"rows/{number}"], rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("empty_first", [False, True])
def test_the_grounded_teachers_terms_are_those_of_the_whole_batch(runs, teacher_parts, empty_first):
    alone, together = grounded_losses(teacher_parts, empty_first), runs.of(f"grounded {empty_first}")
    assert {"class", "box", "proposal", "mask", "dice", "iou"} <= alone.keys() == together.keys()
    for name, value in alone.items():
        assert float(together[name]) == pytest.approx(float(value), rel=1e-6), name


def test_weights_and_average_are_the_same_in_both_processes(runs):
    first, second = runs.of("whole", 0), runs.of("whole", 1)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("place", ["killed", "stopped"])
def test_after_the_end_of_both_a_resumed_run_has_the_same_bits(runs, place):
    whole, resumed = runs.of("whole"), runs.of(place)
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_a_signal_to_one_process_stops_both_after_the_same_step(runs):
    for place in ("stopped", "handed over"):
        assert [int(found[f"{place} after"]) for found in runs.ranks] == [3, 3]


def test_a_checkpoint_of_two_processes_goes_on_in_one_and_the_other_way_round(runs):
    alone = fit(trainer_at(runs.storage, "whole alone"))
    handed_over = fit(trainer_at(runs.storage, "handed over"))
    for changed in (runs.of("whole"), handed_over, runs.of("taken over")):
        for name in (name for name in alone if name.startswith("curve/loss/")):
            assert changed[name].tolist() == pytest.approx(alone[name].tolist(), rel=1e-3), name
