"""The stages after training: evaluate, export, register."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from sskd_core.config.base import Runtime, StrictModel
from sskd_core.config.gate import GateConfig
from sskd_core.config.tracking import TrackingConfig


class EvaluateConfig(StrictModel):
    """Instance AP of each model on one split."""

    split: Literal["val", "test"] = "test"
    batch: Runtime[int] = Field(16, ge=1)
    max_detections: int = Field(100, ge=1)
    overlay_images: int = Field(8, ge=0, description="images drawn side by side in the report")


class ExportConfig(StrictModel):
    """The ONNX file and how close it must be to PyTorch."""

    opset: int = Field(18, ge=17)
    parity_images: int = Field(32, ge=1)
    max_logit_difference: float = Field(1e-2, gt=0, description="largest absolute difference of a logit")
    max_ap_difference: float = Field(0.1, ge=0, description="AP points between PyTorch and onnxruntime on test")


class RegisterConfig(StrictModel):
    """Registration and promotion."""

    gate: GateConfig = Field(default_factory=GateConfig)
    tracking: Runtime[TrackingConfig] = Field(default_factory=TrackingConfig)
    alias: str = Field("champion", pattern=r"^[a-z][a-z0-9_-]*$")
