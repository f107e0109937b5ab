"""Mask heads of a Mask R-CNN: the standard one, and the noise-tolerant one of Noisy Boundaries (arXiv 2203.13427)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor

ROI = 14
"""Cells of a region on a side."""


@dataclass
class MaskLogits:
    """What a head says of R regions, for C classes.

    Attributes:
        fine: [R, C, 28, 28], the prediction.
        coarse: [R, C, 14, 14], which the noise-tolerant head learns beside it.
    """

    fine: Tensor
    coarse: Tensor | None = None


class StandardMaskHead(nn.Module):
    """Four convolutions, one deconvolution, logits (He et al. 2017, arXiv 1703.06870).

    Args:
        channels: of the regions' features.
        width: of the convolutions.
        classes: C.
    """

    def __init__(self, channels: int, width: int, classes: int) -> None:
        super().__init__()
        self.convs = MaskRCNNHeads(channels, (width,) * 4, 1)
        self.predictor = MaskRCNNPredictor(width, width, classes)

    def forward(self, features: Tensor) -> MaskLogits:
        """Predict from [R, channels, 14, 14]."""
        return MaskLogits(self.predictor(self.convs(features)))


class NoiseTolerantMaskHead(nn.Module):
    """Two branches over three shared convolutions.

    The fine branch has a convolution, a deconvolution and 3 x 3 logits at 28 x 28; the coarse branch two convolutions
    and 1 x 1 logits at 14 x 14, which are learned by themselves: at that resolution a noisy boundary matters less. The
    coarse logits, enlarged by a deconvolution, and the fine ones give the final mask by a 1 x 1 convolution.

    Args:
        channels: of the regions' features.
        width: of the convolutions.
        classes: C.
    """

    def __init__(self, channels: int, width: int, classes: int) -> None:
        super().__init__()
        self.shared = MaskRCNNHeads(channels, (width,) * 3, 1)
        self.fine = nn.Sequential(
            MaskRCNNHeads(width, (width,), 1),
            nn.ConvTranspose2d(width, width, 2, stride=2),
            nn.ReLU(),
            nn.Conv2d(width, classes, 3, padding=1),
        )
        self.coarse = nn.Sequential(MaskRCNNHeads(width, (width,) * 2, 1), nn.Conv2d(width, classes, 1))
        self.enlarge = nn.ConvTranspose2d(classes, classes, 2, stride=2)
        self.fuse = nn.Conv2d(2 * classes, classes, 1)
        for module in (*self.fine[1:], self.coarse[-1], self.enlarge, self.fuse):
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]

    def forward(self, features: Tensor) -> MaskLogits:
        """Predict from [R, channels, 14, 14]."""
        shared = self.shared(features)
        coarse = self.coarse(shared)
        return MaskLogits(self.fuse(torch.cat([self.fine(shared), self.enlarge(coarse)], 1)), coarse)
