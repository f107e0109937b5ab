"""Going on from a champion: what a retrain looks for, and what it takes over instead of making it anew."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from sskd_core.config.base import StrictModel
from sskd_core.config.reference import InputRef

FURTHER_INPUTS = {
    "prepare": {"earlier": "prepare"},
    "adapt_teacher": {"student": "adapt_teacher"},
    "pseudo_label": {"earlier": "pseudo_label"},
    "distill": {"student": "refine"},
    "evaluate": {"champion": "refine"},
}
"""Stage -> inputs that only a retrain has, each with the stage of its manifest."""


class RetrainConfig(StrictModel):
    """How `sskd retrain` looks for new images and how much it trains on them."""

    teacher: Literal["keep", "adapt"] = Field(
        "keep", description="label with the champion's teacher, or train it further first, which labels all anew"
    )
    student: Literal["continue", "restart"] = Field(
        "continue", description="go on from the champion's student, or start from its initial weights"
    )
    iterations_share: float = Field(
        0.2, gt=0, le=1, description="of the distillation's iterations, for a student that goes on"
    )
    min_new_images: int = Field(1, ge=1, description="fewer are not worth a run")
    max_unreadable_share: float = Field(
        0.2, ge=0, le=1, description="of the files with an image's name; above it the sources are refused"
    )
    max_file_mb: float = Field(256.0, gt=0, description="larger files are not read, 10^6 bytes")
    quiet_seconds: float = Field(300.0, ge=0, description="watching: time without a change before a run")
    poll_seconds: float = Field(60.0, gt=0, description="watching: time between two listings")


class TakeOver(StrictModel):
    """Results of an earlier run that stand in this one."""

    results: dict[str, InputRef] = Field(
        default_factory=dict, description="node -> manifest of its stage; the node does no work"
    )
    inputs: dict[str, dict[str, InputRef]] = Field(
        default_factory=dict, description="node -> further inputs by name, which its stage goes on from"
    )
