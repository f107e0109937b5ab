"""The objective that fits a network."""

from __future__ import annotations

from sskd_core.config.train import SetCriterionConfig
from sskd_core.losses.region import RegionCriterion
from sskd_core.losses.set_criterion import SetCriterion
from sskd_core.models.protocol import SegmentationModel
from sskd_core.models.region import RegionModel


def criterion_of(model: SegmentationModel, config: SetCriterionConfig) -> SetCriterion:
    """Return the objective of a network's family."""
    if isinstance(model, RegionModel):
        return RegionCriterion(config)
    if model.config.family == "grounded_sam":
        # Imported where it is used: its networks take seconds to import.
        from sskd_core.losses.grounding import GroundingCriterion

        return GroundingCriterion(config)
    return SetCriterion(config)
