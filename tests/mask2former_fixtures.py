"""Tiny Mask2Formers with each named backbone and each pixel decoder."""

from __future__ import annotations

from typing import Any

from engine_fixtures import CLASSES, TEACHER_ARCH, model_config

from sskd_core.config.model import ModelConfig
from sskd_core.models.build import construct
from sskd_core.models.mask2former import Mask2Former

_STAGED = {"embed_dim": 16, "depths": [1, 1, 1, 1], "num_heads": [1, 1, 2, 2], "window_size": 4, "image_size": 64}
_VIT = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
MICRO: dict[str, dict[str, Any]] = {
    "r50": {"depths": [1, 1, 1, 1], "embedding_size": 8, "hidden_sizes": [8, 16, 24, 32]},
    **dict.fromkeys(("swin_t", "swin_s", "swin_b", "swin_l"), _STAGED),
    "dinov2_b": {**_VIT, "image_size": 42},
    "dinov2_l": {**_VIT, "image_size": 42},
    "deit_b": {**_VIT, "image_size": 48, "intermediate_size": 32},
}
"""Settings that make each named backbone tiny."""
_PLAIN = ("dinov2_b", "dinov2_l", "deit_b")
_DEFORMABLE = ("encoder_layers", "encoder_feedforward_dim")
PIXEL_DECODERS = ("deformable", "fpn")


def micro_config(backbone: str, pixel_decoder: str = "deformable", **arch: Any) -> ModelConfig:
    """Return the configuration of the tiny network with a named backbone."""
    dropped = {"backbone_config", *(_DEFORMABLE if pixel_decoder == "fpn" else ())}
    values: dict[str, Any] = {key: value for key, value in TEACHER_ARCH.items() if key not in dropped}
    values |= {"backbone": backbone, "backbone_config": MICRO[backbone], "pixel_decoder": pixel_decoder}
    if backbone in _PLAIN:
        values["pyramid_channels"] = [8, 16, 24, 32]
    return model_config("mask2former", arch=values | arch)


def micro(backbone: str, pixel_decoder: str = "deformable", **arch: Any) -> Mask2Former:
    """Build the tiny network with a named backbone."""
    model = construct(micro_config(backbone, pixel_decoder, **arch), CLASSES, 0)
    assert isinstance(model, Mask2Former)
    return model
