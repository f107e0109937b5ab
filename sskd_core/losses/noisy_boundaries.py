"""The mask loss of Noisy Boundaries (Wang, Li and Wang 2022, arXiv 2203.13427): weight what lies on predicted edges.

The boundary-preserving map of a predicted mask is the magnitude of its 3 x 3 Laplacian, scaled to a mean of 3 over the
mask, and it multiplies the binary cross entropy of each cell. Two forms:

- `per_pixel`: the product cell by cell, as the paper says;
- `scalar`: as the released code has it, whose cross entropy is a mean already when the map multiplies it, so that the
  map averages out and 3 times the plain loss is left.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

BoundaryForm = Literal["none", "per_pixel", "scalar"]
_MEAN = 3.0
_FLAT = 1e-12


def boundary_map(logits: Tensor) -> Tensor:
    """Return the boundary-preserving map of masks, without gradient.

    Args:
        logits: [R, m, m] mask logits of the predicted or annotated class.

    Returns:
        [R, m, m], of mean 3 over each mask. Beyond the map all is 0, so that its border counts as an edge of a mask
        that reaches it. A mask without any edge has 3 everywhere.
    """
    kernel = logits.new_full((1, 1, 3, 3), -1.0)
    kernel[0, 0, 1, 1] = 8.0
    with torch.no_grad():
        edges = functional.conv2d(logits.sigmoid()[:, None], kernel, padding=1)[:, 0].abs()
        mean = edges.flatten(1).mean(1)[:, None, None]
        return torch.where(mean > _FLAT, _MEAN * edges / mean.clamp_min(_FLAT), _MEAN)


def boundary_mask_loss(logits: Tensor, truth: Tensor, form: BoundaryForm) -> Tensor:
    """Compare masks cell by cell.

    Args:
        logits: [R, m, m].
        truth: [R, m, m], 0 to 1.
        form: see above; `none` is plain binary cross entropy.

    Returns:
        A mean over all cells; 0 that still carries a gradient path when R is 0.
    """
    if len(logits) == 0:
        return logits.sum() * 0.0
    entropy = functional.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    match form:
        case "none":
            return entropy.mean()
        case "per_pixel":
            return (entropy * boundary_map(logits)).mean()
        case "scalar":
            return (entropy.mean() * boundary_map(logits)).mean()
