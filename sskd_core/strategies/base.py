"""What the engine asks of a strategy: the weighted loss terms of a step, and what to log beside them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor, nn

from sskd_core.data.loader import Batch
from sskd_core.losses.set_criterion import Target
from sskd_core.models.protocol import SegmentationModel


@dataclass
class StepTerms:
    """The result of one step's forward pass.

    Attributes:
        losses: weighted scalars; their sum is minimised.
        figures: numbers for the log, such as pseudo-instances per image; a tensor is read only when it is logged, so
            that a GPU need not wait for it.
    """

    losses: dict[str, Tensor]
    figures: dict[str, float | Tensor] = field(default_factory=dict)


class Strategy(Protocol):
    """Who teaches whom in one run of the engine."""

    @property
    def extra(self) -> nn.Module | None:
        """What is trained beside the network and thrown away after the run, if anything."""
        ...

    def step(self, model: SegmentationModel, step: int) -> StepTerms:
        """Compute the terms of a step, counted from 0."""
        ...

    def close(self) -> None:
        """Release the loaders."""
        ...


def targets_of(batch: Batch, device: torch.device) -> list[Target]:
    """Return the batch's instances on `device`."""
    return [
        Target(labels.to(device), masks.to(device)) for labels, masks in zip(batch.labels, batch.masks, strict=True)
    ]
