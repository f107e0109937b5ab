"""The objective of networks that compute their own losses."""

from __future__ import annotations

from torch import Tensor

from sskd_core.distributed import group
from sskd_core.losses.set_criterion import SetCriterion, Target
from sskd_core.models.protocol import QueryOutput
from sskd_core.models.region import RegionOutput


class RegionCriterion(SetCriterion):
    """Asks the network; the configuration of the set loss says nothing here."""

    def __call__(self, output: QueryOutput, targets: list[Target]) -> dict[str, Tensor]:
        """Score a batch.

        Args:
            output: of a `RegionModel` in training mode.
            targets: one an image, in batch order.

        Returns:
            The network's weighted terms, by its own names. It divides them by what it has drawn itself, so that in
            several processes the loss is the mean of theirs, of which this is the share.
        """
        assert isinstance(output, RegionOutput)
        losses = output.model.losses(output.pixels, targets)
        return {name: value / group.world() for name, value in losses.items()}
