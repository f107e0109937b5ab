"""The teacher's family behind the engine's forward signature."""

from __future__ import annotations

import pytest
import torch
from engine_fixtures import CLASSES, TEACHER_ARCH, model_config, pixels, tiny_model

from sskd_core.config.model import InputConfig
from sskd_core.errors import ConfigError
from sskd_core.models.build import construct


def test_predictions_of_all_depths_have_the_promised_shapes():
    output = tiny_model("mask2former")(pixels())
    depths = TEACHER_ARCH["decoder_layers"]
    assert [item.shape for item in output.class_logits] == [(2, 6, len(CLASSES) + 1)] * depths
    assert [item.shape for item in output.mask_logits] == [(2, 6, 8, 16)] * depths
    assert output.encoder_levels[-1].shape == (2, 128, 1, 2)


def test_the_encoder_alone_gives_the_same_levels():
    model = tiny_model("mask2former").eval()
    with torch.no_grad():
        alone, whole = model.encode(pixels()), model(pixels()).encoder_levels
    assert len(alone) == len(whole) == 4
    assert all(torch.equal(one, other) for one, other in zip(alone, whole, strict=True))


def test_the_predictions_are_those_of_the_network_inside():
    model = tiny_model("mask2former").eval()
    with torch.no_grad():
        ours, theirs = model(pixels()), model.network(pixel_values=pixels(), output_auxiliary_logits=True)
    assert torch.equal(ours.class_logits[-1], theirs.class_queries_logits)
    assert torch.equal(ours.mask_logits[-1], theirs.masks_queries_logits)
    for index, auxiliary in enumerate(theirs.auxiliary_logits):
        assert torch.equal(ours.class_logits[index], auxiliary["class_queries_logits"])
        assert torch.equal(ours.mask_logits[index], auxiliary["masks_queries_logits"])


def test_every_parameter_learns():
    model = tiny_model("mask2former")
    output = model(pixels())
    sum(item.square().sum() for item in output.class_logits + output.mask_logits).backward()
    idle = [name for name, parameter in model.named_parameters() if parameter.grad is None]
    # The backbone norms each stage's output by itself, and has its classifier's norm left over.
    assert {name for name in idle if "encoder.swin.layernorm" not in name} == set()


def test_the_objective_is_not_part_of_the_network():
    assert not any("criterion" in name for name in tiny_model("mask2former").state_dict())


def test_the_encoder_is_the_backbone():
    encoder = tiny_model("mask2former").encoder_module()
    assert type(encoder).__name__ == "SwinBackbone"


def test_an_input_that_is_no_multiple_of_32_is_refused():
    config = model_config("mask2former").model_copy(update={"input": InputConfig(height=48, width=64)})
    with pytest.raises(ConfigError, match="input 48 x 64 must be a multiple of 32 on both sides"):
        construct(config, CLASSES, 0)


@pytest.mark.parametrize(
    "arch",
    [
        {"backbone_config": {"model_type": "no-such-net"}},
        {"backbone_config": {}},
        {"num_attention_heads": "two"},
        {"feature_size": 24},
    ],
    ids=str,
)
def test_an_impossible_architecture_is_refused(arch):
    with pytest.raises(ConfigError, match="family mask2former: the architecture is not valid") as caught:
        construct(model_config("mask2former", arch={**TEACHER_ARCH, **arch}), CLASSES, 0)
    assert "\n" not in str(caught.value)
