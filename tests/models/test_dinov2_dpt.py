"""The student's family: shapes, sizes, architecture keys."""

from __future__ import annotations

import pytest
import torch
from engine_fixtures import CLASSES, STUDENT_ARCH, model_config, pixels, tiny_model

from sskd_core.config.model import InputConfig, ModelConfig
from sskd_core.errors import ConfigError
from sskd_core.models.build import construct
from sskd_core.models.dinov2_dpt import Dinov2Dpt


def test_predictions_of_all_depths_have_the_promised_shapes():
    output = tiny_model()(pixels())
    depths = STUDENT_ARCH["decoder_layers"] + 1  # the bare queries predict too
    assert [item.shape for item in output.class_logits] == [(2, 6, len(CLASSES) + 1)] * depths
    assert [item.shape for item in output.mask_logits] == [(2, 6, 32, 64)] * depths
    assert output.encoder_levels[-1].shape == (2, 16, 2, 4)


def test_masks_can_be_as_fine_as_the_finest_map_and_keep_its_detail():
    model = construct(model_config(arch={**STUDENT_ARCH, "upsample_masks": False}), CLASSES, 0).eval()
    levels = model.encode(pixels())
    found = model.decode(levels)
    assert {item.shape[2:] for item in found.mask_logits} == {levels[0].shape[2:]} == {(16, 32)}
    noise = torch.randn(levels[0].shape, generator=torch.Generator().manual_seed(0))
    other = model.decode([levels[0] + noise, *levels[1:]])
    assert torch.equal(found.class_logits[0], other.class_logits[0])
    assert not torch.allclose(found.mask_logits[0], other.mask_logits[0])


def test_weights_fit_with_and_without_upsampled_masks():
    coarse = construct(model_config(arch={**STUDENT_ARCH, "upsample_masks": False}), CLASSES, 1)
    coarse.load_state_dict(tiny_model().state_dict())


def test_the_encoder_alone_gives_the_same_levels():
    model = tiny_model().eval()
    with torch.no_grad():
        alone, whole = model.encode(pixels()), model(pixels()).encoder_levels
    assert len(alone) == len(whole) == 4
    assert all(torch.equal(one, other) for one, other in zip(alone, whole, strict=True))


def test_depths_differ_and_the_last_is_the_final_one():
    output = tiny_model().eval()(pixels())
    assert not torch.equal(output.class_logits[0], output.class_logits[-1])
    assert not torch.equal(output.mask_logits[-2], output.mask_logits[-1])


@pytest.mark.parametrize("size", [(33, 64), (40, 50), (36, 37)])
def test_an_input_that_is_no_multiple_of_the_patch_is_resized_inside(size):
    model = tiny_model().eval()
    inputs = torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(0))
    up = tuple(-(-side // 8) * 8 for side in size)
    with torch.no_grad():
        found = model(inputs)
        expected = model(torch.nn.functional.interpolate(inputs, up, mode="bilinear", align_corners=False))
    assert torch.equal(found.mask_logits[-1], expected.mask_logits[-1])


def test_every_parameter_of_the_decoder_and_encoder_learns():
    model = tiny_model()
    output = model(pixels())
    sum(item.square().sum() for item in output.class_logits + output.mask_logits).backward()
    idle = {name for name, parameter in model.named_parameters() if parameter.grad is None}
    # The mask token is DINOv2's own pre-training's, and the first fusion has nothing to add to.
    assert {
        name for name in idle if "mask_token" not in name and "fusion_stage.layers.0.residual_layer1" not in name
    } == set()


def test_the_default_is_a_dinov2_small_with_a_wide_decoder():
    config = ModelConfig(family="dinov2_dpt", input=InputConfig(height=518, width=518))
    with torch.device("meta"):
        model = Dinov2Dpt(config, ["thing"] * 80)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    encoder = sum(parameter.numel() for parameter in model.encoder_module().parameters())
    assert 48e6 < parameters < 56e6  # the paper says 52 M
    assert 21e6 < encoder < 23e6


def test_the_attention_of_the_encoder_is_chosen():
    """An unset choice makes `transformers` warn on the user's terminal and fall back to the slow one."""
    assert tiny_model().encoder.config._attn_implementation == "sdpa"


@pytest.mark.parametrize(
    ("arch", "message"),
    [
        ({"embed_dims": 16}, "unknown key 'embed_dims'; did you mean 'embed_dim'"),
        ({"num_querys": 5}, "did you mean 'num_queries'"),
        ({"taps": [1, 2, 3]}, "'taps"),
        ({"depth": 0}, "'depth': input should be greater than or equal to 4, got 0"),
        ({"heads": 3}, "embed_dim must divide by heads"),
        ({"decoder_heads": 5}, "decoder_dim by decoder_heads"),
        ({"taps": [1, 2, 3, 5]}, "taps"),
        ({"taps": [4, 3, 2, 1]}, "taps"),
    ],
    ids=str,
)
def test_an_impossible_architecture_is_refused(arch, message):
    with pytest.raises(ConfigError, match=f"family dinov2_dpt: .*{message}"):
        construct(model_config(arch={**STUDENT_ARCH, **arch}), CLASSES, 0)
