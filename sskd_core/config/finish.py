"""The stages after training: evaluate, export, register."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from sskd_core.config.base import Runtime, StrictModel
from sskd_core.config.gate import GateConfig
from sskd_core.config.tracking import TrackingConfig

CheapPrecision = Literal["fp16", "int8_dynamic", "int8_static"]
"""Arithmetic of a variant of the 32-bit ONNX file."""


class EvaluateConfig(StrictModel):
    """Instance AP of each model on one split."""

    split: Literal["val", "test"] = "test"
    batch: Runtime[int] = Field(16, ge=1)
    max_detections: int = Field(100, ge=1)
    overlay_images: int = Field(8, ge=0, description="images drawn side by side in the report")
    second_opinion: bool = Field(
        False, description="compute mask AP with detectron2's COCOEvaluator, too; it must be installed"
    )


class ExportConfig(StrictModel):
    """The ONNX file, how close it must be to PyTorch, and its cheaper variants."""

    opset: int = Field(18, ge=17)
    allow_grid_sample: bool = Field(
        False, description="deliver a graph with GridSample, which onnxruntime runs and TensorRT mis-compiles"
    )
    parity_images: int = Field(32, ge=1)
    max_logit_difference: float = Field(1e-2, gt=0, description="largest absolute difference of a logit")
    max_ap_difference: float = Field(0.1, ge=0, description="AP points between PyTorch and onnxruntime on test")
    variants: tuple[CheapPrecision, ...] = Field(
        ("fp16", "int8_dynamic", "int8_static"), description="written and measured beside the 32-bit file"
    )
    max_variant_ap_loss: float = Field(
        0.5, ge=0, description="AP points on test; a variant that loses more is measured but not delivered"
    )
    calibration_images: int = Field(64, ge=1, description="unlabelled images that int8_static is calibrated on")
    latency_runs: Runtime[int] = Field(30, ge=1, description="timed runs of each file, one image each")
    failure_images: int = Field(6, ge=0, description="test images with the worst predictions, drawn for the model card")


class RegisterConfig(StrictModel):
    """Registration and promotion."""

    gate: GateConfig = Field(default_factory=GateConfig)
    tracking: Runtime[TrackingConfig] = Field(default_factory=TrackingConfig)
    alias: str = Field("champion", pattern=r"^[a-z][a-z0-9_-]*$")
