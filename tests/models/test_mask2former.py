"""The Mask2Former family behind the engine's forward signature, with each of its backbones."""

from __future__ import annotations

import json

import pytest
import torch
from engine_fixtures import CLASSES, TEACHER_ARCH, final_logits, model_config, pixels, tiny_model
from mask2former_fixtures import MICRO, PIXEL_DECODERS, micro
from safetensors.torch import load_file, save_file
from torch import nn
from transformers.models.mask2former.modeling_mask2former import Mask2FormerForUniversalSegmentation

from sskd_core.errors import ConfigError
from sskd_core.models.build import build_model, construct
from sskd_core.models.mask2former_arch import network_config, read_arch
from sskd_core.models.trained import model_card
from sskd_core.models.weights import BUILTIN


@pytest.mark.parametrize("pixel_decoder", PIXEL_DECODERS)
@pytest.mark.parametrize("backbone", MICRO)
def test_every_backbone_predicts_learns_saves_and_loads(backbone, pixel_decoder, tmp_path):
    model = micro(backbone, pixel_decoder).train()
    output = model(pixels())
    assert [item.shape for item in output.class_logits] == [(2, 6, len(CLASSES) + 1)] * 3
    assert [item.shape for item in output.mask_logits] == [(2, 6, 8, 16)] * 3
    assert [tuple(level.shape[2:]) for level in output.encoder_levels] == [(8, 16), (4, 8), (2, 4), (1, 2)]
    sum(item.square().sum() for item in output.class_logits + output.mask_logits).backward()
    idle = [name for name, value in model.named_parameters() if value.requires_grad and value.grad is None]
    assert idle == []
    (tmp_path / "config.json").write_text(json.dumps(model_card(model)))
    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, tmp_path / "model.safetensors")
    loaded = build_model(model_config("mask2former", arch={}, weights=str(tmp_path)), CLASSES, None, seed=1)
    for ours, theirs in zip(final_logits(model, pixels()), final_logits(loaded, pixels()), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("backbone", ["r50", "swin_t", "dinov2_b", "deit_b"])
def test_an_odd_input_gives_masks_of_the_whole_of_it(backbone):
    model = micro(backbone).eval()
    with torch.no_grad():
        odd = model(pixels()[:, :, :31, :49])
        assert odd.mask_logits[-1].shape == (2, 6, 8, 16)  # 32 x 64, a quarter
        stretched = nn.functional.interpolate(pixels()[:, :, :31, :49], (32, 64), mode="bilinear")
        assert torch.equal(odd.mask_logits[-1], model(stretched).mask_logits[-1])


def test_the_network_is_the_one_of_transformers():
    """Same names, same values, same predictions at every depth."""
    model = tiny_model("mask2former").eval()
    reference = Mask2FormerForUniversalSegmentation(network_config(read_arch(TEACHER_ARCH), CLASSES)).eval()
    own = {name: value for name, value in reference.state_dict().items() if not name.startswith("criterion.")}
    assert own.keys() == model.network.state_dict().keys()
    reference.load_state_dict(model.network.state_dict(), strict=False)
    with torch.no_grad():
        ours, theirs = model(pixels()), reference(pixel_values=pixels(), output_auxiliary_logits=True)
    assert torch.equal(ours.class_logits[-1], theirs.class_queries_logits)
    assert torch.equal(ours.mask_logits[-1], theirs.masks_queries_logits)
    for index, auxiliary in enumerate(theirs.auxiliary_logits):
        assert torch.equal(ours.class_logits[index], auxiliary["class_queries_logits"])
        assert torch.equal(ours.mask_logits[index], auxiliary["masks_queries_logits"])


def test_the_shipped_teacher_loads_bit_equal():
    loaded = build_model(model_config("mask2former", arch={}, weights="builtin:demo-teacher"), DEMO_CLASSES, None, 0)
    shipped = load_file(BUILTIN / "demo-teacher" / "model.safetensors")
    assert shipped.keys() == loaded.state_dict().keys()
    assert all(torch.equal(shipped[name], value) for name, value in loaded.state_dict().items())


DEMO_CLASSES = ["disc", "square", "triangle", "star", "ring", "cross"]


def test_the_encoder_alone_gives_the_same_levels():
    model = tiny_model("mask2former").eval()
    with torch.no_grad():
        alone, whole = model.encode(pixels()), model(pixels()).encoder_levels
    assert len(alone) == len(whole) == 4
    assert all(torch.equal(one, other) for one, other in zip(alone, whole, strict=True))


def test_a_plain_vit_is_the_encoder_and_its_pyramid_the_adapter():
    model = micro("dinov2_b")
    assert type(model.encoder_module()).__name__ == "Dinov2Backbone"
    assert [item.out_channels for item in model.adapter_module()] == [8, 16, 24, 32]
    assert micro("r50").adapter_module() is None


@pytest.mark.parametrize("backbone", ["dinov2_b", "deit_b"])
def test_the_pyramid_is_the_resized_last_tokens_projected(backbone):
    """Re-derived: normed tokens of the last block on their grid, resized, one 1x1 convolution a stride."""
    model = micro(backbone).eval()
    vit, patch = model.encoder_module(), 14 if backbone == "dinov2_b" else 16
    grid = (-(-32 // patch), -(-64 // patch))
    with torch.no_grad():
        image = nn.functional.interpolate(pixels(), (grid[0] * patch, grid[1] * patch), mode="bilinear")
        if backbone == "dinov2_b":
            tokens = vit.layernorm(vit(image, output_hidden_states=True).hidden_states[-1])[:, 1:]
        else:
            tokens = vit(image, interpolate_pos_encoding=True).last_hidden_state[:, 1:]
        plane = tokens.permute(0, 2, 1).reshape(2, 16, *grid)
        for level, stride, layer in zip(model.encode(pixels()), (4, 8, 16, 32), model.adapter_module(), strict=True):
            resized = nn.functional.interpolate(plane, (32 // stride, 64 // stride), mode="bilinear")
            expected = torch.einsum("oc,bchw->bohw", layer.weight[:, :, 0, 0], resized) + layer.bias[:, None, None]
            assert torch.allclose(level, expected, atol=1e-5)


def test_nearest_by_switch():
    smooth, blocky = micro("dinov2_b").eval(), micro("dinov2_b", pyramid_resize="nearest").eval()
    blocky.load_state_dict(smooth.state_dict())
    with torch.no_grad():
        finest = blocky.encode(pixels())[0]
        assert not torch.allclose(finest, smooth.encode(pixels())[0])
    # 3 x 5 tokens on 8 x 16 cells: every cell is a copy of one of them.
    assert len(finest[0].flatten(1).T.unique(dim=0)) == 15


def test_the_feature_pyramid_has_no_deformable_attention():
    names = " ".join(type(module).__name__ for module in micro("r50", "fpn").modules())
    assert "Deformable" not in names
    assert "Deformable" in " ".join(type(module).__name__ for module in micro("r50").modules())


def test_the_feature_pyramid_is_that_of_the_paper():
    """Top-down: 3x3 of the coarsest; then the nearest-resized level above plus a 1x1 lateral, 3x3 again."""
    decoder = micro("r50", "fpn").eval().network.pixel_level.decoder
    maps = [torch.randn(1, width, 8 >> i, 16 >> i) for i, width in enumerate([8, 16, 24, 32])]
    with torch.no_grad():
        levels, mask_features = decoder(maps)
        level = decoder.fpn.stem(maps[3])
        assert torch.equal(level, levels[0])
        for place, layer in enumerate(decoder.fpn.layers):
            above = level.repeat_interleave(2, 2).repeat_interleave(2, 3)
            level = layer.block(above + layer.proj(maps[2 - place]))
            if place < 2:
                assert torch.allclose(level, levels[place + 1], atol=1e-6)
        assert torch.allclose(decoder.mask_projection(level), mask_features, atol=1e-6)


def test_a_frozen_backbone_stays_as_it_is_and_the_rest_learns():
    model = micro("r50", freeze_backbone=True).train()
    before = {name: value.clone() for name, value in model.encoder_module().state_dict().items()}
    output = model(pixels())
    sum(item.square().sum() for item in output.mask_logits + output.class_logits).backward()
    after = model.encoder_module().state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)  # running statistics too
    assert all(value.grad is None for value in model.encoder_module().parameters())
    assert all(
        value.grad is not None for name, value in model.named_parameters() if "pixel_level_module.encoder" not in name
    )


def test_a_frozen_vit_leaves_its_pyramid_to_learn():
    model = micro("dinov2_b", freeze_backbone=True).train()
    sum(item.square().sum() for item in model(pixels()).mask_logits).backward()
    assert all(value.grad is not None for value in model.adapter_module().parameters())
    assert not model.encoder_module().training


def test_frozen_batch_norm_leaves_the_convolutions_to_learn():
    model = micro("r50", freeze_batch_norm=True).train()
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    means = [module.running_mean.clone() for module in norms]
    sum(item.square().sum() for item in model(pixels()).mask_logits).backward()
    assert all(torch.equal(module.running_mean, mean) for module, mean in zip(norms, means, strict=True))
    assert all(module.weight.grad is None for module in norms)
    convolutions = [module for module in model.encoder_module().modules() if isinstance(module, nn.Conv2d)]
    assert all(module.weight.grad is not None for module in convolutions)


def test_how_to_train_is_said_by_the_run_and_not_by_the_weights(tmp_path):
    model = micro("r50", freeze_backbone=True)
    (tmp_path / "config.json").write_text(json.dumps(model_card(model)))
    save_file(dict(model.state_dict()), tmp_path / "model.safetensors")
    where = {"weights": str(tmp_path)}
    assert not build_model(model_config("mask2former", arch={}, **where), CLASSES, None, 0).arch.freeze_backbone
    kept = build_model(model_config("mask2former", arch={"freeze_batch_norm": True}, **where), CLASSES, None, 0)
    assert kept.arch.freeze_batch_norm
    with pytest.raises(ConfigError, match="unknown key 'freeze_bakbone'; did you mean 'freeze_backbone'"):
        build_model(model_config("mask2former", arch={"freeze_bakbone": True}, **where), CLASSES, None, 0)


@pytest.mark.parametrize(
    "arch",
    [
        {"backbone_config": {"model_type": "swin", "out_features": ["stage3", "stage4"]}},
        {"backbone_config": {"model_type": "swin", "embed_dim": "wide"}},
    ],
    ids=str,
)
def test_an_impossible_architecture_is_refused(arch):
    with pytest.raises(ConfigError, match="family mask2former: the architecture is not valid") as caught:
        construct(model_config("mask2former", arch={**TEACHER_ARCH, **arch}), CLASSES, 0)
    assert "\n" not in str(caught.value)
