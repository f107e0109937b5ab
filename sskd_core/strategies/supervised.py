"""Learning from annotations alone: the labels-only teacher, the baseline student, and refinement."""

from __future__ import annotations

from sskd_core.data.loader import BatchLoader
from sskd_core.losses.set_criterion import SetCriterion
from sskd_core.models.protocol import SegmentationModel
from sskd_core.strategies.base import StepTerms, targets_of


class Supervised:
    """J = L_sup.

    Args:
        labeled: batches with annotations.
        criterion: the set loss.
    """

    def __init__(self, labeled: BatchLoader, criterion: SetCriterion) -> None:
        self._labeled = labeled
        self._criterion = criterion

    def step(self, model: SegmentationModel, step: int) -> StepTerms:
        """Compute the supervised terms."""
        batch = self._labeled.batch(step)
        device = next(model.parameters()).device
        output = model(batch.pixels.to(device))
        losses = self._criterion(output, targets_of(batch, output.encoder_features))
        return StepTerms({f"sup_{name}": value for name, value in losses.items()})

    def close(self) -> None:
        """Release the loader."""
        self._labeled.close()
