"""Encoder pre-training: the set loss of the whole network, and a dense objective on its encoder."""

from __future__ import annotations

from sskd_core.data.loader import BatchLoader
from sskd_core.losses.dense import dense_loss, dense_targets
from sskd_core.losses.set_criterion import SetCriterion
from sskd_core.models.dense_student import STRIDE, DenseOutput
from sskd_core.models.protocol import SegmentationModel
from sskd_core.strategies.base import StepTerms, targets_of


class SupervisedWithDense:
    """J = L_sup + weight * L_dense, for a model whose output is a `DenseOutput`.

    Args:
        labeled: batches with annotations.
        criterion: the set loss.
        weight: of the dense objective; it is some twenty times smaller than the set loss.
    """

    def __init__(self, labeled: BatchLoader, criterion: SetCriterion, weight: float) -> None:
        self._labeled = labeled
        self._criterion = criterion
        self._weight = weight

    def step(self, model: SegmentationModel, step: int) -> StepTerms:
        """Compute both objectives."""
        batch = self._labeled.batch(step)
        output = model(batch.pixels.to(next(model.parameters()).device))
        assert isinstance(output, DenseOutput)
        terms = self._criterion(output, targets_of(batch, output.encoder_features))
        losses = {f"sup_{name}": value for name, value in terms.items()}
        targets = dense_targets(batch.labels, batch.masks, len(model.classes), STRIDE)
        dense = dense_loss(output.maps, *(target.to(output.maps.device) for target in targets))
        return StepTerms(losses | {f"dense_{name}": self._weight * value for name, value in dense.items()})

    def close(self) -> None:
        """Release the loader."""
        self._labeled.close()
