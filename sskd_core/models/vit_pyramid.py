"""A plain vision transformer as the backbone of a network that wants four maps.

Guided Distillation (Berrada et al. 2024, arXiv 2308.02668), section 4.1: the normed patch tokens of the last block are
resized to strides 4, 8, 16 and 32 and projected, each by a 1x1 convolution of its own. Nothing else.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedConfig
from transformers.models.dinov2.modeling_dinov2 import Dinov2Backbone
from transformers.models.vit.modeling_vit import ViTModel

from sskd_core.models.resize import to_multiple

STRIDES = (4, 8, 16, 32)


class VitPyramid(nn.Module):
    """Four maps of a plain ViT.

    Inputs are resized to the next multiple of the patch, position embeddings as `transformers` does (bicubic).

    Args:
        config: of a `Dinov2Backbone` (its last block is read) or a `ViTModel`.
        channels: of the maps, finest first.
        resize: how the input and the token map are resized.
    """

    def __init__(
        self, config: PreTrainedConfig, channels: tuple[int, ...], resize: Literal["bilinear", "nearest"]
    ) -> None:
        super().__init__()
        self.vit: Dinov2Backbone | ViTModel
        if config.model_type == "dinov2":
            self.vit = Dinov2Backbone(config)
            if self.vit.embeddings.mask_token is not None:
                self.vit.embeddings.mask_token.requires_grad_(False)  # published weights hold it; nothing is masked
        else:
            self.vit = ViTModel(config, add_pooling_layer=False)
        self.projections = nn.ModuleList(nn.Conv2d(config.hidden_size, width, 1) for width in channels)
        self.channels = list(channels)
        self._patch = int(config.patch_size)
        self._resize = resize

    def forward(self, pixels: Tensor) -> list[Tensor]:
        """Return the maps, finest first.

        Args:
            pixels: [B, 3, H, W]; both sides a multiple of 32.

        Returns:
            Four maps, [B, channels[i], H / STRIDES[i], W / STRIDES[i]].
        """
        tokens = self._token_map(to_multiple(pixels, self._patch, self._resize))
        height, width = pixels.shape[2:]
        return [
            projection(functional.interpolate(tokens, (height // stride, width // stride), mode=self._resize))
            for stride, projection in zip(STRIDES, self.projections, strict=True)
        ]

    def _token_map(self, pixels: Tensor) -> Tensor:
        """Return the normed patch tokens of the last block on their grid."""
        if isinstance(self.vit, Dinov2Backbone):
            last: Tensor = self.vit(pixels).feature_maps[-1]
            return last
        states: Tensor = self.vit(pixels, interpolate_pos_encoding=True).last_hidden_state[:, 1:]
        rows, columns = pixels.shape[2] // self._patch, pixels.shape[3] // self._patch
        return states.transpose(1, 2).reshape(len(states), -1, rows, columns)
