"""What `arch` of family mask2former may say, and the backbones that it names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, model_validator
from transformers import AutoConfig, Mask2FormerConfig, PreTrainedConfig

from sskd_core.config.base import StrictModel, unknown_key, validate
from sskd_core.errors import ConfigError
from sskd_core.models.architecture import explained

FAMILY = "family mask2former"
PLAIN = ("dinov2", "vit")
"""Vision transformers of one resolution, by `model_type`: they get a pyramid."""

_STAGES = {"out_features": ["stage1", "stage2", "stage3", "stage4"]}
_SWIN = {"model_type": "swin", "drop_path_rate": 0.3, **_STAGES}
_SWIN_384 = {**_SWIN, "depths": [2, 2, 18, 2], "window_size": 12, "image_size": 384}
_DINOV2 = {"model_type": "dinov2", "image_size": 518, "use_mask_token": True}
_BACKBONES: dict[str, dict[str, Any]] = {
    "r50": {"model_type": "resnet", **_STAGES},
    "swin_t": {**_SWIN, "depths": [2, 2, 6, 2]},
    "swin_s": {**_SWIN, "depths": [2, 2, 18, 2]},
    "swin_b": {**_SWIN_384, "embed_dim": 128, "num_heads": [4, 8, 16, 32]},
    "swin_l": {**_SWIN_384, "embed_dim": 192, "num_heads": [6, 12, 24, 48]},
    "dinov2_b": _DINOV2,
    "dinov2_l": {**_DINOV2, "hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16},
    "deit_b": {"model_type": "vit", "image_size": 384},
}
BackboneName = Literal["r50", "swin_t", "swin_s", "swin_b", "swin_l", "dinov2_b", "dinov2_l", "deit_b"]
_DEFAULT_BACKBONE: BackboneName = "swin_s"
_OF_DEFORMABLE = ("encoder_layers", "encoder_feedforward_dim")


class Mask2FormerArch(StrictModel):
    """Architecture; the defaults are Mask2Former's own, with Swin-S.

    `backbone` names a backbone of the papers; `backbone_config` holds the settings of any backbone of `transformers`,
    with its `model_type`, or changes some settings of the one that `backbone` names.
    """

    backbone: BackboneName | None = Field(None, description="a backbone by its name in the papers")
    backbone_config: dict[str, Any] | None = Field(
        None, description="the backbone's settings, as transformers has them"
    )
    freeze_backbone: bool = Field(False, description="no gradient, fixed statistics and no drop path in the backbone")
    freeze_batch_norm: bool = Field(False, description="keep the backbone's batch normalisation as loaded")
    pyramid_resize: Literal["bilinear", "nearest"] = Field(
        "bilinear", description="how a plain ViT's map becomes four; the released Guided Distillation code has nearest"
    )
    pyramid_channels: tuple[int, int, int, int] = Field((128, 256, 512, 1024), description="of a plain ViT's four maps")
    pixel_decoder: Literal["deformable", "fpn"] = Field("deformable", description="fpn has no deformable attention")
    feature_size: int = Field(256, ge=32, multiple_of=32, description="width of the pixel decoder")
    mask_feature_size: int = Field(256, ge=1)
    hidden_dim: int = Field(256, ge=8, description="width of the query decoder")
    encoder_layers: int = Field(6, ge=1, description="of the deformable pixel decoder")
    encoder_feedforward_dim: int = Field(1024, ge=1)
    decoder_layers: int = Field(10, ge=2, description="supervised predictions; the first is of the bare queries")
    num_attention_heads: int = Field(8, ge=1)
    dim_feedforward: int = Field(2048, ge=1)
    num_queries: int = Field(100, ge=1, description="the papers use 200 with Swin-L")
    activation_function: str = "relu"
    dropout: float = Field(0.0, ge=0, lt=1)
    pre_norm: bool = False
    enforce_input_projection: bool = False

    @model_validator(mode="after")
    def _widths_divide(self) -> Mask2FormerArch:
        if self.hidden_dim % self.num_attention_heads or self.feature_size % self.num_attention_heads:
            raise ValueError("hidden_dim and feature_size must divide by num_attention_heads")
        if self.backbone is None and self.backbone_config is not None and "model_type" not in self.backbone_config:
            raise ValueError("backbone_config needs a model_type, or a backbone that it changes")
        return self

    @model_validator(mode="after")
    def _every_key_matters(self) -> Mask2FormerArch:
        idle = [name for name in _OF_DEFORMABLE if name in self.model_fields_set]
        if self.pixel_decoder == "fpn" and idle:
            raise ValueError(f"'{idle[0]}' belongs to pixel_decoder deformable")
        kind = self.backbone_values()["model_type"]
        idle = [name for name in ("pyramid_resize", "pyramid_channels") if name in self.model_fields_set]
        if kind not in PLAIN and idle:
            raise ValueError(f"'{idle[0]}' belongs to a plain ViT (dinov2_b, dinov2_l, deit_b)")
        if self.freeze_batch_norm and kind != "resnet":
            raise ValueError("'freeze_batch_norm' belongs to a ResNet")
        return self

    def backbone_values(self) -> dict[str, Any]:
        """Return the settings of the backbone, `model_type` included."""
        own = self.backbone_config or {}
        if self.backbone is None and own:
            return own
        return _BACKBONES[self.backbone or _DEFAULT_BACKBONE] | own


def read_arch(values: Mapping[str, Any]) -> Mask2FormerArch:
    """Check `arch`.

    Raises:
        ConfigError: unknown key, with the closest one named, or impossible value.
    """
    arch = validate(Mask2FormerArch, values, FAMILY)
    kind, known = _settings(arch.backbone_values()["model_type"])
    for key in arch.backbone_config or {}:
        if key not in known:
            raise ConfigError(f"{FAMILY}: {unknown_key(f'backbone_config.{key}', known)}")
    named = _BACKBONES.get(arch.backbone or "", {"model_type": kind})
    if named["model_type"] != kind:
        raise ConfigError(f"{FAMILY}: backbone {arch.backbone} is a {named['model_type']}, not a {kind}")
    return arch


def published_arch(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the `arch` of a published `config.json`: what defines the network, without how it was trained and saved.

    Raises:
        ConfigError: its backbone is not one of `transformers`.
    """
    kept = {key: value for key, value in values.items() if key in Mask2FormerArch.model_fields and value is not None}
    backbone = kept.get("backbone_config")
    if isinstance(backbone, dict) and "model_type" in backbone:
        known = _settings(backbone["model_type"])[1]
        kept["backbone_config"] = {key: value for key, value in backbone.items() if key in known}
    return kept


def network_config(arch: Mask2FormerArch, classes: list[str]) -> Mask2FormerConfig:
    """Return the configuration of the network inside.

    Raises:
        ConfigError: the architecture is not a Mask2Former's.
    """
    ours = {"backbone", "backbone_config", "freeze_backbone", "freeze_batch_norm", "pixel_decoder"}
    values = arch.model_dump(exclude=ours | {"pyramid_resize", "pyramid_channels"})
    backbone = dict(arch.backbone_values())
    labels = dict(enumerate(classes))
    with explained(FAMILY):
        return Mask2FormerConfig(
            backbone_config=AutoConfig.for_model(backbone.pop("model_type"), **backbone),
            id2label=labels,
            label2id={name: index for index, name in labels.items()},
            **values,
        )


def _settings(model_type: str) -> tuple[str, list[str]]:
    """Return a backbone's type and the keys that define it: what its configuration class itself declares."""
    with explained(FAMILY):
        kind = type(AutoConfig.for_model(model_type))
    declared = [
        name
        for base in kind.__mro__
        if issubclass(base, PreTrainedConfig) and base is not PreTrainedConfig
        for name in base.__annotations__
        if not name.startswith("_")
    ]
    return model_type, ["model_type", "out_features", "out_indices", *declared]
