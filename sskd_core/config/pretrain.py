"""Pre-training of the shipped weights: which network, how long, and which part of it is delivered."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from sskd_core.config.base import StrictModel
from sskd_core.config.model import ModelConfig
from sskd_core.config.train import TrainConfig


class PretrainConfig(StrictModel):
    """One pre-training run on rendered scenes of the source domain."""

    model: ModelConfig
    train: TrainConfig
    deliver: Literal["model", "encoder"] = Field(description="ship all of it (a teacher) or its encoder (a student)")
    seed: int = Field(0, ge=0)
    scenes: int = Field(6000, ge=1, description="training scenes")
    val_scenes: int = Field(100, ge=1, description="scenes that choose nothing but the reported curve's best point")
