"""What the engine asks of a strategy: the weighted loss terms of a step, and what to log beside them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

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

    def add(self, part: StepTerms) -> None:
        """Take over what a part computed, cut off from its graph, whose memory is then free."""
        self.losses |= {name: value.detach() for name, value in part.losses.items()}
        self.figures |= part.figures


Part = Callable[[], StepTerms]
"""One forward pass of a step; its terms are back-propagated before the next part begins."""
Validate = Callable[[SegmentationModel], float]
"""Scores a network in eval mode on val, higher is better."""


class Strategy:
    """Who teaches whom in one run of the engine. A strategy of a single forward pass overrides `step` alone.

    Attributes:
        extra: what is trained beside the network and thrown away after the run, if anything.
        memory: what must survive an interruption beside the network and the optimiser, such as an online teacher.
    """

    extra: nn.Module | None = None
    memory: nn.Module | None = None

    def parts(self, model: SegmentationModel, step: int) -> Sequence[Part]:
        """Return the forward passes of a step, counted from 0.

        The gradients of the parts add up to one update; no graph outlives its part.
        """
        return [partial(self.step, model, step)]

    def step(self, model: SegmentationModel, step: int) -> StepTerms:
        """Compute the terms of a step that has one part."""
        raise NotImplementedError

    def validated(self, step: int, score: float, validate: Validate) -> None:
        """Hear how the network did on val.

        Args:
            step: finished iterations.
            score: of the network that is delivered.
            validate: scores another one.
        """

    def facts(self) -> dict[str, Any]:
        """Return what the manifest of the stage should say of the run; small JSON values."""
        return {}

    def close(self) -> None:
        """Release the loaders."""


def targets_of(batch: Batch, device: torch.device) -> list[Target]:
    """Return the batch's instances on `device`."""
    return [
        Target(labels.to(device), masks.to(device)) for labels, masks in zip(batch.labels, batch.masks, strict=True)
    ]


def total(terms: dict[str, Tensor]) -> Tensor:
    """Return the sum of some terms, without their graph."""
    return torch.stack([value.detach() for value in terms.values()]).sum()
