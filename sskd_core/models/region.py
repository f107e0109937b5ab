"""Networks that find boxes and segment inside them: Mask R-CNN and its kin, which compute their own losses.

Such a network has no queries to match, so its objective cannot be the engine's. In training its output is the batch
itself, on its way to `RegionModel.losses`; in eval mode what it found is written as queries, so that everything that
reads predictions of queries reads its, too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from sskd_core.losses.set_criterion import Target
from sskd_core.models.protocol import QueryOutput, SegmentationModel

STRIDE = 4
_TINY = 1e-6
_NOWHERE = -20.0
"""Mask logit of what is certainly outside."""


@dataclass
class Regions:
    """What a network found in one image.

    Attributes:
        labels: [n] class indices.
        scores: [n], descending.
        paste: returns the mask probabilities of instance i, [h, w] of the size that was asked for.
    """

    labels: Tensor
    scores: Tensor
    paste: Callable[[int], Tensor]


class RegionOutput(QueryOutput):
    """A batch that waits for its targets; it has no queries.

    Args:
        model: that computes the losses.
        pixels: [B, 3, H, W], normalised.
    """

    def __init__(self, model: RegionModel, pixels: Tensor) -> None:
        super().__init__([], [], [])
        self.model, self.pixels = model, pixels

    def rows(self, part: slice) -> RegionOutput:
        """Return some images of the batch."""
        return RegionOutput(self.model, self.pixels[part])


class RegionModel(SegmentationModel):
    """Base of the families that compute their own losses."""

    def losses(self, pixels: Tensor, targets: list[Target]) -> dict[str, Tensor]:
        """Return the weighted terms of a batch, in training mode.

        Args:
            pixels: [B, 3, H, W], normalised.
            targets: one an image; instances without a pixel are left out.
        """
        raise NotImplementedError

    def detect(self, pixels: Tensor, sizes: list[tuple[int, int]]) -> list[Regions]:
        """Find the instances of each image, in eval mode and without gradient.

        Args:
            pixels: [B, 3, H, W], normalised.
            sizes: per image, (h, w) of the wanted masks, which cover the whole input.
        """
        raise NotImplementedError

    def forward(self, pixels: Tensor) -> QueryOutput:
        """Return the batch itself in training mode, else what was found, as queries at stride 4."""
        if self.training:
            return RegionOutput(self, pixels)
        size = (-(-pixels.shape[2] // STRIDE), -(-pixels.shape[3] // STRIDE))
        return as_queries(self.detect(pixels, [size] * len(pixels)), size, len(self.classes))

    def encode(self, pixels: Tensor) -> list[Tensor]:
        """Refuse: no term over features attaches here."""
        raise NotImplementedError(f"family {self.config.family} shows no feature levels")


def as_queries(found: list[Regions], size: tuple[int, int], classes: int) -> QueryOutput:
    """Write found instances as queries: probabilities become the logits that give them back.

    An instance of score s is a query with probability s for its class and 1 - s for "no object". The queries of images
    with fewer instances than the fullest say "no object" and have empty masks.

    Args:
        found: one an image.
        size: (h, w) of the masks.
        classes: their number, C.

    Returns:
        One depth, [B, Q, C+1] and [B, Q, h, w]; Q is 1 or more.
    """
    device = found[0].scores.device
    queries = max([1, *(len(item.scores) for item in found)])
    probabilities = torch.full((len(found), queries, classes + 1), _TINY, device=device)
    masks = torch.full((len(found), queries, *size), _NOWHERE, device=device)
    probabilities[..., classes] = 1.0
    for image, item in enumerate(found):
        for query, (label, score) in enumerate(zip(item.labels.tolist(), item.scores.tolist(), strict=True)):
            probabilities[image, query, label] = max(score, _TINY)
            probabilities[image, query, classes] = max(1.0 - score, _TINY)
            masks[image, query] = item.paste(query).clamp(0.0, 1.0).logit(eps=torch.finfo(torch.float32).eps)
    return QueryOutput([probabilities.log()], [masks], [])
