"""A checkpoint holds everything that a run needs to go on, and a broken one costs time and not correctness."""

from __future__ import annotations

import logging

import pytest
import torch
from engine_fixtures import pixels, tiny_model
from safetensors.torch import load, save
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from sskd_core.config.train import OptimizerConfig
from sskd_core.training.checkpoint import CheckpointStore, Progression, pack, unpack
from sskd_core.training.optimizer import make_optimizer


class Run:
    """A network, its average and its optimiser, some steps into training."""

    def __init__(self, steps: int, seed: int = 0) -> None:
        self.model = tiny_model(seed=seed)
        self.average = AveragedModel(self.model, multi_avg_fn=get_ema_multi_avg_fn(0.9), use_buffers=True)
        self.modules = {"model": self.model, "average": self.average}
        self.optimizer = make_optimizer(self.model, OptimizerConfig(lr=1e-2, backbone_lr_multiplier=0.5))
        for step in range(steps):
            self.step(step)

    def step(self, number: int) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        output = self.model.train()(pixels(seed=number))
        (output.class_logits[-1].square().sum() + output.mask_logits[-1].square().mean()).backward()
        self.optimizer.step()
        self.average.update_parameters(self.model)

    def bytes(self, state: Progression) -> bytes:
        return pack(self.modules, self.optimizer, state)


STATE = Progression(step=2, best_step=1, curves={"loss/total": [(1, 0.5), (2, 1 / 3)], "val/mask_ap": [(1, 12.5)]})


def test_what_is_packed_comes_back():
    first, second = Run(steps=2), Run(steps=0, seed=1)
    data = first.bytes(STATE)
    assert unpack(data, second.modules, second.optimizer) == STATE
    assert second.bytes(STATE) == data
    assert int(second.average.n_averaged) == 2


def test_a_restored_run_goes_on_as_the_first_one():
    first, second = Run(steps=2), Run(steps=0, seed=1)
    unpack(first.bytes(STATE), second.modules, second.optimizer)
    for run in (first, second):
        run.step(2)
        run.step(3)
    assert second.bytes(STATE) == first.bytes(STATE)


def test_the_learning_rate_is_not_restored():
    """It is a function of the step; the groups that the configuration made stay as they are."""
    first, second = Run(steps=1), Run(steps=0)
    for group in second.optimizer.param_groups:
        group["lr"] = 0.125
    unpack(first.bytes(STATE), second.modules, second.optimizer)
    assert {group["lr"] for group in second.optimizer.param_groups} == {0.125}


def test_a_checkpoint_is_safetensors_and_no_pickle():
    tensors = load(Run(steps=1).bytes(STATE))
    assert {name.split("/")[0] for name in tensors} == {"model", "average", "optimizer"}


@pytest.fixture
def checkpoints(store) -> CheckpointStore:
    return CheckpointStore(store, f"{store.root}/stages/distill/x")


def objects(store) -> list[str]:
    return [item.uri.rsplit("/", 1)[1] for item in store.list(store.root)]


def test_without_a_checkpoint_the_run_starts_fresh(checkpoints):
    run = Run(steps=1)
    before = run.bytes(STATE)
    assert checkpoints.restore(run.modules, run.optimizer) == Progression()
    assert run.bytes(STATE) == before


def test_saved_is_restored_through_the_store(checkpoints, store):
    first, second = Run(steps=2), Run(steps=0)
    checkpoints.save(first.modules, first.optimizer, STATE)
    assert objects(store) == ["latest.safetensors"]
    assert checkpoints.restore(second.modules, second.optimizer) == STATE
    assert second.bytes(STATE) == first.bytes(STATE)


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[: len(data) // 2],
        lambda data: b"\xff" * 64 + data[64:],
        lambda data: save(load(data)),  # the tensors alone, without the header
    ],
    ids=["empty", "cut off", "overwritten", "no header"],
)
def test_a_broken_checkpoint_starts_from_the_beginning_with_a_warning(damage, checkpoints, store, caplog):
    first, second = Run(steps=2), Run(steps=0)
    checkpoints.save(first.modules, first.optimizer, STATE)
    uri = next(item.uri for item in store.list(store.root))
    store.put(uri, damage(store.get(uri)))
    before = second.bytes(STATE)
    with caplog.at_level(logging.WARNING):
        assert checkpoints.restore(second.modules, second.optimizer) == Progression()
    assert second.bytes(STATE) == before  # nothing of it was half restored
    (record,) = caplog.records
    assert uri in record.getMessage()
    assert "starting from the beginning" in record.getMessage()


def test_the_best_weights_are_kept_apart(checkpoints, store):
    first, second = Run(steps=1), Run(steps=0, seed=1)
    checkpoints.save_best(first.model)
    expected = {name: value.clone() for name, value in first.model.state_dict().items()}
    first.step(1)
    checkpoints.save(first.modules, first.optimizer, STATE)
    checkpoints.load_best(second.model)
    assert all(torch.equal(value, expected[name]) for name, value in second.model.state_dict().items())
    assert objects(store) == ["best.safetensors", "latest.safetensors"]


def test_discarding_leaves_nothing_and_may_happen_twice(checkpoints, store):
    run = Run(steps=0)
    checkpoints.save(run.modules, run.optimizer, STATE)
    checkpoints.save_best(run.model)
    checkpoints.discard()
    checkpoints.discard()
    assert objects(store) == []
