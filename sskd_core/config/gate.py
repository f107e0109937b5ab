"""The promotion policy: what a model must show before an alias moves. AP is in points, 0..100."""

from __future__ import annotations

from pydantic import Field

from sskd_core.config.base import StrictModel


class GateConfig(StrictModel):
    """The rules of the gate. A limit that is null makes its rule not apply.

    A gain over the champion passes when the lower end of its interval lies above `min_gain_over_champion`, so of models
    that are no better than the champion plus that margin at most `1 - confidence` are promoted.
    """

    min_mask_ap: float = Field(0.0, ge=0, le=100)
    min_gain_over_supervised: float = Field(0.0, description="student minus supervised-only student, AP points")
    min_gain_over_champion: float = Field(0.0, description="AP points; a negative value admits an equal model")
    confidence: float = Field(0.95, gt=0.5, lt=1, description="of the two-sided interval of the gain")
    resamples: int = Field(1000, ge=100, le=100_000, description="resamples of the paired bootstrap over images")
    seed: int = Field(0, ge=0, description="of the bootstrap")
    max_class_drop: float | None = Field(None, ge=0, description="AP points that a class may lose to the champion")
    variant: str = Field("fp32", min_length=1, description="exported file whose latency and size are judged")
    runtime: str = Field("CPUExecutionProvider", min_length=1, description="onnxruntime provider of the latency")
    max_latency_ms: float | None = Field(None, gt=0, description="median for one image on `runtime`")
    max_megabytes: float | None = Field(None, gt=0, description="size of the file, 10^6 bytes")
    max_empty_rate: float | None = Field(None, ge=0, le=1, description="share of images without a pseudo-label")
    max_class_drift: float | None = Field(None, ge=0, le=1, description="pseudo-labels to labels, total variation")
    licences: list[str] | None = Field(None, description="all that a model may inherit; null allows any")
