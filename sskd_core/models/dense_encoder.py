"""The student's encoder under a thin dense head, for pre-training that encoder.

A query decoder that starts from random values learns slowly from an encoder that knows nothing: both wait for each
other. A dense objective has no such plateau. The head is thrown away afterwards; the encoder is delivered.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from sskd_core.config.model import ModelConfig
from sskd_core.models.dinov2_dpt import Dinov2Dpt
from sskd_core.models.protocol import QueryOutput, SegmentationModel

STRIDE = 4


class DenseEncoder(SegmentationModel):
    """Per-cell predictions from the ViT's last block on a grid of stride 4.

    Args:
        config: of a `dinov2_dpt`; the patch must be a multiple of 4, and the input of the patch.
        classes: class names.
    """

    def __init__(self, config: ModelConfig, classes: list[str]) -> None:
        super().__init__()
        student = Dinov2Dpt(config, classes)
        self.config, self.classes, self.encoder = config, classes, student.encoder
        self._patch = student.arch.patch_size
        channels = len(classes) + 1 + 2 + 1
        self.head = nn.Conv2d(student.arch.embed_dim, channels * (self._patch // STRIDE) ** 2, 1)

    def maps(self, pixels: Tensor) -> Tensor:
        """Predict densely.

        Args:
            pixels: [B, 3, H, W], normalised.

        Returns:
            [B, C+1+2+1, H/4, W/4]: class logits with background last, the offset (down, right) to the centre of the
            cell's instance in units of 16 pixels, and the logit of lying at a border.
        """
        rows, columns = pixels.shape[2] // self._patch, pixels.shape[3] // self._patch
        tokens = self.encoder(pixels).feature_maps[-1][:, 1:]
        grid = tokens.transpose(1, 2).unflatten(2, (rows, columns))
        return functional.pixel_shuffle(self.head(grid), self._patch // STRIDE)

    def forward(self, pixels: Tensor) -> QueryOutput:
        """Refuse: an encoder has no queries."""
        raise NotImplementedError("a DenseEncoder predicts maps, not queries")

    def encoder_module(self) -> nn.Module:
        """Return the part that is delivered."""
        encoder: nn.Module = self.encoder
        return encoder


@torch.inference_mode()
def cell_accuracy(model: DenseEncoder, pixels: Tensor, category: Tensor) -> float:
    """Return the share of cells with an instance whose class is right, percent.

    Args:
        model: in eval mode.
        pixels: [B, 3, H, W], normalised.
        category: [B, H/4, W/4] class indices, C for background.
    """
    classes = len(model.classes)
    right = model.maps(pixels)[:, : classes + 1].argmax(1) == category
    return 100.0 * float(right[category != classes].float().mean())
