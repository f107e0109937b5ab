"""Mask2Former put together from the parts of `transformers`, so that backbone and pixel decoder can be chosen.

Modules have the names that `Mask2FormerForUniversalSegmentation` gives them: its published weights fit.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoBackbone, Mask2FormerConfig
from transformers.models.mask2former.modeling_mask2former import (
    Mask2FormerPixelDecoder,
    Mask2FormerPreTrainedModel,
    Mask2FormerTransformerModule,
)
from transformers.models.maskformer.modeling_maskformer import MaskFormerFPNModel

from sskd_core.models.mask2former_arch import PLAIN, Mask2FormerArch
from sskd_core.models.protocol import QueryOutput
from sskd_core.models.vit_pyramid import VitPyramid

_LEVELS = 3
"""Maps that the query decoder reads."""


class FpnPixelDecoder(nn.Module):
    """A feature pyramid network (Lin et al. 2017) as Mask2Former's pixel decoder: plain convolutions alone.

    Args:
        channels: of the backbone's maps, finest first.
        width: of the pyramid.
        mask_width: of the mask features.
    """

    def __init__(self, channels: list[int], width: int, mask_width: int) -> None:
        super().__init__()
        self.fpn = MaskFormerFPNModel(channels[-1], channels[:-1], width)
        self.mask_projection = nn.Conv2d(width, mask_width, 3, padding=1)

    def forward(self, maps: list[Tensor]) -> tuple[list[Tensor], Tensor]:
        """Return the three coarsest levels of the pyramid, coarsest first, and the mask features at stride 4."""
        levels = [self.fpn.stem(maps[-1])]
        for layer, lateral in zip(self.fpn.layers, reversed(maps[:-1]), strict=True):
            levels.append(layer(levels[-1], lateral))
        return levels[:_LEVELS], self.mask_projection(levels[-1])

    def initialise(self) -> None:
        """Initialise the convolutions as detectron2's pyramids do (Kaiming, uniform, of gain 1)."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_uniform_(module.weight, a=1)


class PixelLevel(nn.Module):
    """Backbone and pixel decoder."""

    def __init__(self, config: Mask2FormerConfig, arch: Mask2FormerArch) -> None:
        super().__init__()
        backbone = config.backbone_config
        if backbone.model_type in PLAIN:
            self.encoder: Any = VitPyramid(backbone, arch.pyramid_channels, arch.pyramid_resize)
        else:
            self.encoder = AutoBackbone.from_config(backbone)
            idle = dict(self.encoder.named_modules()).get("swin.layernorm")
            if idle is not None:
                idle.requires_grad_(False)  # the classifier's; each stage has a norm of its own
        channels = list(self.encoder.channels)
        if len(channels) != _LEVELS + 1:
            raise ValueError(f"backbone_config.out_features must name four maps, it names {len(channels)}")
        self.decoder: Any = (
            FpnPixelDecoder(channels, config.feature_size, config.mask_feature_size)
            if arch.pixel_decoder == "fpn"
            else Mask2FormerPixelDecoder(config, feature_channels=channels)
        )

    def encode(self, pixels: Tensor) -> list[Tensor]:
        """Return the backbone's four maps, finest first."""
        maps = self.encoder(pixels)
        return maps if isinstance(maps, list) else list(maps.feature_maps)

    def decode(self, maps: list[Tensor]) -> tuple[list[Tensor], Tensor]:
        """Return three maps for the queries, coarsest first, and the mask features."""
        output = self.decoder(maps)
        if isinstance(self.decoder, FpnPixelDecoder):
            levels, mask_features = output
        else:
            levels, mask_features = list(output.multi_scale_features), output.mask_features
        return levels, mask_features


class _Core(nn.Module):
    """What lies below the class head; a level of the names that published weights have."""

    def __init__(self, config: Mask2FormerConfig, arch: Mask2FormerArch) -> None:
        super().__init__()
        self.pixel_level_module = PixelLevel(config, arch)
        self.transformer_module: Any = Mask2FormerTransformerModule(config.feature_size, config)


class Mask2FormerNetwork(Mask2FormerPreTrainedModel):  # type: ignore[misc]
    """The network.

    Args:
        config: widths, depths, classes.
        arch: backbone and pixel decoder.

    Raises:
        ValueError: the parts do not fit together.
    """

    def __init__(self, config: Mask2FormerConfig, arch: Mask2FormerArch) -> None:
        super().__init__(config)
        self.model = _Core(config, arch)
        self.class_predictor = nn.Linear(config.hidden_dim, config.num_labels + 1)
        self.post_init()

    @property
    def pixel_level(self) -> PixelLevel:
        """Backbone and pixel decoder."""
        return self.model.pixel_level_module

    def forward(self, maps: list[Tensor]) -> QueryOutput:
        """Predict from the maps that `pixel_level.encode` returns."""
        levels, mask_features = self.pixel_level.decode(maps)
        output = self.model.transformer_module(levels, mask_features, output_hidden_states=True)
        return QueryOutput(
            class_logits=[self.class_predictor(state.transpose(0, 1)) for state in output.intermediate_hidden_states],
            mask_logits=list(output.masks_queries_logits),
            encoder_levels=maps,
        )

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, FpnPixelDecoder):
            module.initialise()
