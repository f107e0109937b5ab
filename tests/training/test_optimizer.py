"""Parameter groups, and the learning rate in closed form."""

from __future__ import annotations

import math

import pytest
from engine_fixtures import tiny_model
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from sskd_core.config.train import OptimizerConfig
from sskd_core.training.optimizer import learning_rate, make_optimizer, set_learning_rate


def groups(model, **values) -> dict[str, tuple[float, float]]:
    """Return (scale, decay) of every trained parameter by name."""
    optimizer = make_optimizer(model, OptimizerConfig(**values))
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    found = {
        names[id(parameter)]: (group["scale"], group["weight_decay"])
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    assert len(found) == sum(len(group["params"]) for group in optimizer.param_groups)  # none twice
    return found


@pytest.fixture(params=["dinov2_dpt", "mask2former"])
def model(request):
    return tiny_model(request.param)


def test_the_encoder_learns_at_its_share(model):
    found = groups(model, backbone_lr_multiplier=0.25)
    encoder = {id(parameter) for parameter in model.encoder_module().parameters()}
    assert found.keys() == {name for name, _ in model.named_parameters()}
    for name, parameter in model.named_parameters():
        assert found[name][0] == (0.25 if id(parameter) in encoder else 1.0), name


def test_norms_embeddings_and_positions_do_not_decay(model):
    found = groups(model, weight_decay=0.07)
    spared = {
        f"{prefix}.{name}"
        for prefix, module in model.named_modules()
        if isinstance(module, (nn.LayerNorm, nn.GroupNorm, nn.BatchNorm2d, nn.Embedding))
        for name, _ in module.named_parameters(recurse=False)
    }
    spared |= {name for name in found if any(part in name for part in ("position", "_token", "bias_table"))}
    assert {name for name, (_, decay) in found.items() if decay == 0.0} == spared
    assert {decay for _, decay in found.values()} == {0.0, 0.07}
    assert len(spared) > 10


def test_what_trains_beside_the_network_has_the_base_rate(model):
    extra = nn.Linear(3, 3)
    optimizer = make_optimizer(model, OptimizerConfig(backbone_lr_multiplier=0.25, weight_decay=0.07), extra)
    group = next(item for item in optimizer.param_groups if any(value is extra.weight for value in item["params"]))
    assert (group["scale"], group["weight_decay"]) == (1.0, 0.07)


def test_a_share_of_zero_freezes_the_encoder(model):
    found = groups(model, backbone_lr_multiplier=0.0)
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    encoder = {id(parameter) for parameter in model.encoder_module().parameters()}
    assert frozen == {name for name, parameter in model.named_parameters() if id(parameter) in encoder}
    assert not frozen & found.keys()


def test_every_group_gets_its_share_of_the_rate(model):
    optimizer = make_optimizer(model, OptimizerConfig(backbone_lr_multiplier=0.1))
    set_learning_rate(optimizer, 0.5)
    assert {round(group["lr"], 6) for group in optimizer.param_groups} == {0.5, 0.05}


@pytest.mark.parametrize("step", [0, 1, 37, 99])
def test_schedules_in_closed_form(step):
    def rate(**values) -> float:
        return learning_rate(OptimizerConfig(lr=2e-4, **values), step, 100)

    assert rate(schedule="poly", poly_power=0.9) == pytest.approx(2e-4 * (1 - step / 100) ** 0.9)
    assert rate(schedule="cosine") == pytest.approx(1e-4 * (1 + math.cos(math.pi * step / 100)))
    assert rate(schedule="constant") == 2e-4


def test_a_step_schedule_falls_to_a_tenth_at_each_milestone():
    config = OptimizerConfig(lr=1.0, schedule="step", milestones=(3, 5))
    assert [learning_rate(config, step, 7) for step in range(7)] == pytest.approx([1, 1, 1, 0.1, 0.1, 0.01, 0.01])


@pytest.mark.parametrize(
    "values", [{"schedule": "step"}, {"milestones": (3,)}, {"schedule": "step", "milestones": (5, 3)}]
)
def test_milestones_belong_to_the_step_schedule_and_increase(values):
    with pytest.raises(ValueError, match="needs milestones, increasing"):
        OptimizerConfig(**values)


def test_warm_up_rises_to_the_peak_and_the_schedule_starts_there():
    config = OptimizerConfig(lr=1.0, warmup_iterations=4, schedule="poly", poly_power=1.0)
    assert [learning_rate(config, step, 8) for step in range(8)] == pytest.approx(
        [0.25, 0.5, 0.75, 1.0, 1.0, 0.75, 0.5, 0.25]
    )


@given(
    st.sampled_from(["poly", "cosine", "constant"]),
    st.integers(0, 50),
    st.integers(1, 60).flatmap(lambda length: st.tuples(st.just(length), st.integers(0, length - 1))),
)
def test_the_rate_is_positive_and_never_above_the_peak(schedule, warmup, place):
    iterations, step = place
    rate = learning_rate(OptimizerConfig(lr=1e-3, schedule=schedule, warmup_iterations=warmup), step, iterations)
    assert 0.0 < rate <= 1e-3
