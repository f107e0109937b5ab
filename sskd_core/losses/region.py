"""The objective of networks that compute their own losses."""

from __future__ import annotations

from torch import Tensor

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
            The network's weighted terms, by its own names.
        """
        assert isinstance(output, RegionOutput)
        return output.model.losses(output.pixels, targets)
