"""Parameter groups, and the learning rate in closed form."""

from __future__ import annotations

import math

import pytest
from engine_fixtures import tiny_model
from hypothesis import given
from hypothesis import strategies as st
from mask2former_fixtures import MICRO, micro
from torch import nn

from sskd_core.config.train import OptimizerConfig
from sskd_core.errors import ConfigError
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
    assert found.keys() == {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert found[name][0] == (0.25 if id(parameter) in encoder else 1.0), name


def test_norms_embeddings_and_positions_do_not_decay(model):
    found = groups(model, weight_decay=0.07)
    spared = {
        f"{prefix}.{name}"
        for prefix, module in model.named_modules()
        if isinstance(module, (nn.LayerNorm, nn.GroupNorm, nn.BatchNorm2d, nn.Embedding))
        for name, parameter in module.named_parameters(recurse=False)
        if parameter.requires_grad
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


def scale_of(found: dict[str, tuple[float, float]], part: str) -> float:
    """Return the one scale of the parameters whose name has `part` in it."""
    scales = {scale for name, (scale, _) in found.items() if part in name}
    assert len(scales) == 1, (part, scales)
    return scales.pop()


@pytest.mark.parametrize("backbone", ["dinov2_b", "deit_b"])
def test_layer_decay_of_a_vit(backbone):
    """Two blocks: depths are 0 embeddings, 1 and 2 blocks, 3 the final norm; 0.5 ** (3 - depth) of the tenth."""
    model = micro(backbone)
    found = groups(model, backbone_lr_multiplier=0.1, layer_decay=0.5, adapter_lr_multiplier=0.4)
    assert scale_of(found, "vit.embeddings.") == pytest.approx(0.1 / 8)
    layers = "vit.encoder.layer." if backbone == "dinov2_b" else "vit.layers."
    assert scale_of(found, f"{layers}0.") == pytest.approx(0.1 / 4)
    assert scale_of(found, f"{layers}1.") == pytest.approx(0.1 / 2)
    assert scale_of(found, "vit.layernorm.") == pytest.approx(0.1)
    assert scale_of(found, "encoder.projections.") == 0.4
    assert scale_of(found, "transformer_module.") == 1.0


def test_layer_decay_of_a_swin():
    """Stages of 1, 2, 1 and 1 blocks: a merging goes with the last block before it, the stages' norms are last."""
    model = micro("swin_t", backbone_config={**MICRO["swin_t"], "depths": [1, 2, 1, 1]})
    found = groups(model, backbone_lr_multiplier=1.0, layer_decay=0.5)
    assert scale_of(found, "swin.embeddings.") == pytest.approx(0.5**6)
    depths = {"0.blocks.0": 1, "0.downsample": 1, "1.blocks.0": 2, "1.blocks.1": 3, "1.downsample": 3}
    for part, depth in {**depths, "2.blocks.0": 4, "2.downsample": 4, "3.blocks.0": 5}.items():
        assert scale_of(found, f"swin.encoder.layers.{part}.") == pytest.approx(0.5 ** (6 - depth)), part
    assert scale_of(found, "hidden_states_norms.") == 1.0
    assert scale_of(found, "pixel_level_module.decoder.") == 1.0


def test_layer_decay_of_the_student():
    found = groups(tiny_model(), backbone_lr_multiplier=0.1, layer_decay=0.9)
    assert scale_of(found, "encoder.embeddings.") == pytest.approx(0.1 * 0.9**5)
    assert scale_of(found, "encoder.encoder.layer.3.") == pytest.approx(0.1 * 0.9)


def test_layer_decay_of_a_resnet_is_refused():
    with pytest.raises(
        ConfigError, match=r"layer_decay 0\.8 needs a ViT or Swin encoder; this one is a ResNetBackbone"
    ):
        groups(micro("r50"), layer_decay=0.8)


def test_what_the_network_has_frozen_is_left_out():
    found = groups(micro("r50", freeze_backbone=True))
    assert found
    assert not [name for name in found if "pixel_level_module.encoder" in name]
