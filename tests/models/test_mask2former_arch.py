"""The keys of `arch`, and the networks that they name."""

from __future__ import annotations

import pytest
import torch
from engine_fixtures import CLASSES, TEACHER_ARCH, model_config
from transformers import SwinConfig

from sskd_core.errors import ConfigError
from sskd_core.models.build import construct
from sskd_core.models.mask2former_arch import network_config, published_arch, read_arch

_MILLION = 1e6


@pytest.mark.parametrize(
    ("arch", "message"),
    [
        ({"backbon": "r50"}, "unknown key 'backbon'; did you mean 'backbone'?"),
        ({"num_querys": 5}, "unknown key 'num_querys'; did you mean 'num_queries'?"),
        ({"class_weight": 3.0}, "unknown key 'class_weight'"),
        (
            {"backbone": "swin_t", "backbone_config": {"drop_path": 0.1}},
            "unknown key 'backbone_config.drop_path'; did you mean 'drop_path_rate'?",
        ),
        ({"backbone": "dinov2_g"}, "'backbone': input should be 'r50', 'swin_t'"),
        ({"backbone": "r50", "backbone_config": {"model_type": "swin"}}, "backbone r50 is a resnet, not a swin"),
        ({"backbone_config": {"embed_dim": 8}}, "backbone_config needs a model_type"),
        ({"backbone_config": {"model_type": "no-such-net"}}, "the architecture is not valid"),
        ({"backbone": "r50", "pyramid_resize": "nearest"}, "'pyramid_resize' belongs to a plain ViT"),
        ({"backbone": "swin_t", "freeze_batch_norm": True}, "'freeze_batch_norm' belongs to a ResNet"),
        ({"pixel_decoder": "fpn", "encoder_layers": 3}, "'encoder_layers' belongs to pixel_decoder deformable"),
        ({"hidden_dim": 20}, "must divide by num_attention_heads"),
        ({"feature_size": 40}, "'feature_size': input should be a multiple of 32"),
    ],
    ids=str,
)
def test_what_would_do_nothing_or_something_else_is_refused(arch, message):
    with pytest.raises(ConfigError, match="family mask2former: ") as caught:
        read_arch(arch)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_settings_of_a_named_backbone_can_be_changed():
    arch = read_arch({"backbone": "swin_t", "backbone_config": {"drop_path_rate": 0.05}})
    backbone = network_config(arch, CLASSES).backbone_config
    assert (backbone.drop_path_rate, list(backbone.depths), backbone.embed_dim) == (0.05, [2, 2, 6, 2], 96)


def test_nothing_said_is_swin_s_with_the_published_widths():
    config = network_config(read_arch({}), CLASSES)
    assert list(config.backbone_config.depths) == [2, 2, 18, 2]
    assert (config.hidden_dim, config.num_queries, config.decoder_layers) == (256, 100, 10)


def test_a_published_description_keeps_what_defines_the_network():
    config = network_config(read_arch(TEACHER_ARCH), CLASSES)
    values = config.to_dict() | {"backbone": None, "use_pretrained_backbone": False}
    kept = published_arch(values)
    assert "class_weight" not in kept
    assert "id2label" not in kept
    assert read_arch(kept) == read_arch(kept | {"backbone_config": kept["backbone_config"]})
    again = network_config(read_arch(kept), CLASSES)
    assert isinstance(again.backbone_config, SwinConfig)
    assert again.to_diff_dict() == config.to_diff_dict()


# Parameters in millions: Cheng et al. 2022, tables 1 and 2, for whole networks of 80 and 133 classes (the class head
# is within the rounding); bare backbones of the DINOv2, DeiT, Swin and ResNet papers, without a classifier.
@pytest.mark.parametrize(
    ("name", "queries", "whole", "encoder"),
    [
        ("r50", 100, 44.0, 23.5),
        ("swin_t", 100, 47.0, 27.5),
        ("swin_s", 100, 69.0, 48.8),
        ("swin_b", 100, 107.0, 86.9),
        ("swin_l", 200, 216.0, 195.0),
        ("dinov2_b", 100, None, 86.6),
        ("dinov2_l", 100, None, 304.4),
        ("deit_b", 100, None, 86.1),
    ],
)
def test_parameter_counts_are_the_published_ones(name, queries, whole, encoder):
    with torch.device("meta"):
        model = construct(
            model_config("mask2former", arch={"backbone": name, "num_queries": queries}), [str(i) for i in range(80)], 0
        )
    count = sum(parameter.numel() for parameter in model.parameters()) / _MILLION
    inside = sum(parameter.numel() for parameter in model.encoder_module().parameters()) / _MILLION
    assert inside == pytest.approx(encoder, abs=0.6 if name == "swin_l" else 0.11)
    if whole is None:
        rest = sum(p.numel() for p in model.adapter_module().parameters()) / _MILLION
        whole = 44.0 - 23.5 + encoder + rest - (2048 + 1024 + 512 + 256 - 1920) * 256 / _MILLION
    assert count == pytest.approx(whole, abs=0.6)
