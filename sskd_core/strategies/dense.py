"""Encoder pre-training by a dense objective."""

from __future__ import annotations

from sskd_core.data.loader import BatchLoader
from sskd_core.losses.dense import dense_loss, dense_targets
from sskd_core.models.dense_encoder import STRIDE, DenseEncoder
from sskd_core.models.protocol import SegmentationModel
from sskd_core.strategies.base import StepTerms, Strategy


class DensePretraining(Strategy):
    """J = cross entropy of the class + L1 of the offset + cross entropy of the border, for a `DenseEncoder`.

    Args:
        labeled: batches with annotations.
    """

    def __init__(self, labeled: BatchLoader) -> None:
        self._labeled = labeled

    def step(self, model: SegmentationModel, step: int) -> StepTerms:
        """Compute the three terms."""
        assert isinstance(model, DenseEncoder)
        batch = self._labeled.batch(step)
        maps = model.maps(batch.pixels.to(next(model.parameters()).device))
        targets = dense_targets(batch.labels, batch.masks, len(model.classes), STRIDE)
        losses = dense_loss(maps, *(target.to(maps.device) for target in targets))
        return StepTerms({f"dense_{name}": value for name, value in losses.items()})

    def close(self) -> None:
        """Release the loader."""
        self._labeled.close()
