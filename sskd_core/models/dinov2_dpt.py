"""The student family: a DINOv2 encoder, a DPT decoder, and Mask2Former's masked-attention query decoder.

Spec: `Training a Student Expert via Semi-Supervised Foundation Model Distillation`, section 3. The parts are those of
`transformers`; composed here. No deformable attention, no custom operator and no GridSample: it exports to plain ONNX.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field, model_validator
from torch import Tensor, nn
from transformers import Dinov2Config, DPTConfig, Mask2FormerConfig
from transformers.models.dinov2.modeling_dinov2 import Dinov2Backbone
from transformers.models.dpt.modeling_dpt import DPTFeatureFusionLayer, DPTNeck
from transformers.models.mask2former.modeling_mask2former import (
    Mask2FormerMaskedAttentionDecoderLayer,
    Mask2FormerTransformerModule,
)

from sskd_core.config.base import StrictModel, validate
from sskd_core.config.model import ModelConfig
from sskd_core.models.protocol import QueryOutput, SegmentationModel
from sskd_core.models.resize import to_multiple


class Dinov2DptArch(StrictModel):
    """Architecture; the defaults are DINOv2-S with a 256-wide decoder."""

    patch_size: int = Field(14, ge=2)
    embed_dim: int = Field(384, ge=8)
    depth: int = Field(12, ge=4)
    heads: int = Field(6, ge=1)
    pretrain_size: int = Field(518, ge=14, description="side of the image that the position embedding was trained on")
    taps: tuple[int, int, int, int] = Field((3, 6, 9, 12), description="blocks whose output is read, counted from 1")
    neck_sizes: tuple[int, int, int, int] = (96, 192, 384, 768)
    reassemble_factors: tuple[float, float, float, float] = (4, 2, 1, 0.5)
    decoder_dim: int = Field(256, ge=8, description="width of the DPT fusion, the mask features and the query decoder")
    decoder_layers: int = Field(9, ge=1)
    decoder_heads: int = Field(8, ge=1)
    decoder_ffn: int = Field(2048, ge=8)
    num_queries: int = Field(100, ge=1)
    batch_norm: bool = Field(True, description="batch normalisation in the DPT residual units")
    upsample_masks: bool = Field(
        True, description="masks twice as fine as the finest reassembled map, as DPT has it; false: as fine as that map"
    )

    @model_validator(mode="after")
    def _parts_fit(self) -> Dinov2DptArch:
        if self.embed_dim % self.heads or self.decoder_dim % self.decoder_heads:
            raise ValueError("embed_dim must divide by heads, and decoder_dim by decoder_heads")
        if list(self.taps) != sorted(set(self.taps)) or self.taps[0] < 1 or self.taps[-1] > self.depth:
            raise ValueError(f"taps must be increasing numbers of blocks, 1 to depth ({self.depth})")
        return self


class Dinov2Dpt(SegmentationModel):
    """DINOv2 + DPT + masked-attention decoder.

    Input sides that are no multiple of the patch are resized bilinearly to the next one inside `forward`; mask logits
    refer to the whole input either way.

    Args:
        config: `arch` holds the fields of `Dinov2DptArch`.
        classes: class names.

    Raises:
        ConfigError: unknown architecture key or impossible value.
    """

    @classmethod
    def check_arch(cls, arch: Mapping[str, Any]) -> None:
        """Refuse unknown keys; see `SegmentationModel.check_arch`."""
        validate(Dinov2DptArch, arch, "family dinov2_dpt")

    def __init__(self, config: ModelConfig, classes: list[str]) -> None:
        super().__init__()
        self.config = config
        self.classes = classes
        self.arch = validate(Dinov2DptArch, config.arch, "family dinov2_dpt")
        self.encoder = Dinov2Backbone(_dinov2_config(self.arch))
        # A copy: the neck's configuration would unset which attention the backbone has chosen.
        self.neck = DPTNeck(_dpt_config(self.arch, _dinov2_config(self.arch)))
        if not self.arch.upsample_masks:
            self.neck.fusion_stage.layers[-1] = _LastFusion(self.neck.config)
        self.decoder = Mask2FormerTransformerModule(self.arch.decoder_dim, _decoder_config(self.arch))
        self.class_head = nn.Linear(self.arch.decoder_dim, len(classes) + 1)
        self._initialise_decoder()

    def forward(self, pixels: Tensor) -> QueryOutput:
        """Predict; see `SegmentationModel.forward`."""
        return self.decode(self.encode(pixels))

    def encode(self, pixels: Tensor) -> list[Tensor]:
        """Return the reassembled maps of the four taps; see `SegmentationModel.encode`."""
        patch = self.arch.patch_size
        rows, columns = -(-pixels.shape[2] // patch), -(-pixels.shape[3] // patch)
        states = self.encoder(to_multiple(pixels, patch)).feature_maps
        levels: list[Tensor] = self.neck.reassemble_stage(list(states), rows, columns)
        return levels

    def decode(self, levels: list[Tensor]) -> QueryOutput:
        """Predict from the maps that `encode` returns."""
        fused = self.neck.fusion_stage([conv(level) for conv, level in zip(self.neck.convs, levels, strict=True)])
        output = self.decoder(fused[:3], fused[3], output_hidden_states=True)
        return QueryOutput(
            class_logits=[self.class_head(state.transpose(0, 1)) for state in output.intermediate_hidden_states],
            mask_logits=list(output.masks_queries_logits),
            encoder_levels=levels,
        )

    def encoder_module(self) -> nn.Module:
        """Return the ViT, for weights that hold an encoder alone."""
        encoder: nn.Module = self.encoder
        return encoder

    def _initialise_decoder(self) -> None:
        """Initialise as Mask2Former does: Xavier in the attention layers and projections, normal in the queries."""
        for module in self.decoder.modules():
            if isinstance(module, Mask2FormerMaskedAttentionDecoderLayer):
                for parameter in module.parameters():
                    if parameter.dim() > 1:
                        nn.init.xavier_uniform_(parameter)
                nn.init.zeros_(module.cross_attn.in_proj_bias)
            elif isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight)


class _LastFusion(DPTFeatureFusionLayer):  # type: ignore[misc]
    """DPT's fusion without the doubling at its end: most of a small network's time goes into the finest map."""

    def forward(self, hidden_state: Tensor, residual: Tensor) -> Tensor:
        """Fuse two maps of equal size."""
        fused: Tensor = self.projection(self.residual_layer2(hidden_state + self.residual_layer1(residual)))
        return fused


def _dinov2_config(arch: Dinov2DptArch) -> Dinov2Config:
    return Dinov2Config(
        hidden_size=arch.embed_dim,
        num_hidden_layers=arch.depth,
        num_attention_heads=arch.heads,
        patch_size=arch.patch_size,
        image_size=arch.pretrain_size,
        use_mask_token=True,
        out_features=[f"stage{tap}" for tap in arch.taps],
        apply_layernorm=True,
        reshape_hidden_states=False,
    )


def _dpt_config(arch: Dinov2DptArch, backbone: Dinov2Config) -> DPTConfig:
    values: dict[str, Any] = {
        "backbone_config": backbone,
        "neck_hidden_sizes": list(arch.neck_sizes),
        # A transposed convolution wants whole numbers.
        "reassemble_factors": [int(f) if f >= 1 else f for f in arch.reassemble_factors],
        "fusion_hidden_size": arch.decoder_dim,
        "use_batch_norm_in_fusion_residual": arch.batch_norm,
        "readout_type": "ignore",
        "is_hybrid": False,
    }
    return DPTConfig(**values)


def _decoder_config(arch: Dinov2DptArch) -> Mask2FormerConfig:
    return Mask2FormerConfig(
        hidden_dim=arch.decoder_dim,
        mask_feature_size=arch.decoder_dim,
        feature_size=arch.decoder_dim,
        num_queries=arch.num_queries,
        # transformers counts the prediction from the bare queries as a layer.
        decoder_layers=arch.decoder_layers + 1,
        num_attention_heads=arch.decoder_heads,
        dim_feedforward=arch.decoder_ffn,
    )
