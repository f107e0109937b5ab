"""Learning from annotations alone: the labels-only teacher, the baseline student, and refinement."""

from __future__ import annotations

from sskd_core.data.loader import BatchLoader
from sskd_core.losses.set_criterion import SetCriterion
from sskd_core.models.protocol import SegmentationModel
from sskd_core.strategies.base import StepTerms, Strategy, targets_of
from sskd_core.strategies.contrast import ContrastTerm


class Supervised(Strategy):
    """J = L_sup, or L_sup + lambda_pxl * L_pxl.

    Args:
        labeled: batches with annotations.
        criterion: the set loss.
        contrast: the contrastive term, if there is one.
    """

    def __init__(self, labeled: BatchLoader, criterion: SetCriterion, contrast: ContrastTerm | None = None) -> None:
        self._labeled = labeled
        self._criterion = criterion
        self.extra = self._contrast = contrast

    def step(self, model: SegmentationModel, step: int) -> StepTerms:
        """Compute the supervised terms, and the contrastive one."""
        batch = self._labeled.batch(step)
        device = next(model.parameters()).device
        pixels = batch.pixels.to(device)
        output = model(pixels)
        losses = self._criterion(output, targets_of(batch, device))
        terms = StepTerms({f"sup_{name}": value for name, value in losses.items()})
        if self._contrast is not None:
            self._contrast.add_to(terms, model, output, pixels, batch, None, step)
        return terms

    def close(self) -> None:
        """Release the loader."""
        self._labeled.close()
