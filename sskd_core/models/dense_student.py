"""The student with a thin dense head on its encoder, for pre-training that encoder.

A query decoder that starts from random values learns slowly from an encoder that knows nothing: both wait for each
other. A dense objective has no such plateau. The head and the decoder are thrown away; the encoder is delivered.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional

from sskd_core.config.model import ModelConfig
from sskd_core.models.dinov2_dpt import Dinov2Dpt
from sskd_core.models.protocol import QueryOutput

STRIDE = 4


@dataclass
class DenseOutput(QueryOutput):
    """A query output with dense maps beside it.

    Attributes:
        maps: [B, C+1+2+1, H/4, W/4]: class logits with background last, the offset (down, right) to the centre of the
            cell's instance in units of 16 pixels, and the logit of lying at a border.
    """

    maps: Tensor


class DenseStudent(Dinov2Dpt):
    """`Dinov2Dpt` with per-cell predictions from the ViT's last block on a grid of stride 4.

    Args:
        config: the patch must be a multiple of 4, and the input of the patch.
        classes: class names.
    """

    def __init__(self, config: ModelConfig, classes: list[str]) -> None:
        super().__init__(config, classes)
        self._fold = self.arch.patch_size // STRIDE
        channels = len(classes) + 1 + 2 + 1
        self.dense_head = nn.Conv2d(self.arch.embed_dim, channels * self._fold**2, 1)

    def forward(self, pixels: Tensor) -> DenseOutput:
        """Predict queries and maps."""
        rows, columns = pixels.shape[2] // self.arch.patch_size, pixels.shape[3] // self.arch.patch_size
        taps = self.encoder(pixels).feature_maps
        queries = self.decode(list(taps), rows, columns)
        grid = taps[-1][:, 1:].transpose(1, 2).unflatten(2, (rows, columns))
        maps = functional.pixel_shuffle(self.dense_head(grid), self._fold)
        return DenseOutput(queries.class_logits, queries.mask_logits, queries.encoder_features, maps)
