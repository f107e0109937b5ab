"""The instance-aware pixel contrastive term: how negatives are drawn, at which temperature, on which features.

Defaults are those of the SSKD specification; where the paper is silent they follow its first author's code.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from sskd_core.config.base import StrictModel


class TemperatureConfig(StrictModel):
    """The temperature T of the contrastive loss over a run."""

    start: float = Field(0.3, gt=0, le=10)
    end: float = Field(0.07, gt=0, le=10)
    schedule: Literal["linear", "exponential", "constant"] = Field("linear", description="constant stays at `start`")


class StrongViewConfig(StrictModel):
    """The strong view: colour and blur on top of the weak view's own crop, so that pixels stay aligned.

    The first four are the half-widths of `torchvision.transforms.ColorJitter`.
    """

    brightness: float = Field(0.4, ge=0, le=1)
    contrast: float = Field(0.4, ge=0, le=1)
    saturation: float = Field(0.4, ge=0, le=1)
    hue: float = Field(0.1, ge=0, le=0.5)
    jitter_probability: float = Field(1.0, ge=0, le=1, description="of the four above, together")
    grayscale: float = Field(0.2, ge=0, le=1, description="probability")
    blur_sigma: tuple[float, float] = Field((0.1, 2.0), description="of a Gaussian, pixels, drawn uniformly")
    blur_probability: float = Field(1.0, ge=0, le=1)
    blur_kernel: int = Field(5, ge=1, le=51, description="odd, pixels; 1 turns the blur off")

    @model_validator(mode="after")
    def _valid(self) -> StrongViewConfig:
        if not 0 < self.blur_sigma[0] <= self.blur_sigma[1]:
            raise ValueError("blur_sigma must be two increasing positive numbers")
        if self.blur_kernel % 2 == 0:
            raise ValueError("blur_kernel must be odd")
        return self


class PixelContrastConfig(StrictModel):
    """The term itself. Its weight is `lambda_pxl` of the training run."""

    negatives: Literal["uniform", "mask", "class", "fusion"] = Field(
        "fusion", description="which of a pixel's predictions decide who is unlike it: none, P_m, F_c, or both"
    )
    negative_scope: Literal["batch", "cross_image", "same_image"] = Field(
        "batch", description="where negatives come from, relative to the anchor's image"
    )
    per_process: bool = Field(
        False,
        description="of several processes each draws from its own images alone, as the paper; false draws from all, "
        "so that their number changes nothing",
    )
    num_negatives: int = Field(200, ge=1, description="R, drawn without replacement for each anchor")
    temperature: TemperatureConfig = Field(default_factory=TemperatureConfig)
    projector_dim: int = Field(128, ge=2, description="D, of both hidden layers and of the embedding")
    feature_level: int = Field(-1, description="of the encoder, 0 the finest, -1 the coarsest")
    fully_detached_strong: bool = Field(False, description="no gradient through the strong view's projection either")
    strong_view: StrongViewConfig = Field(default_factory=StrongViewConfig)
    memory_mb: int = Field(
        1024, ge=1, description="bound on the pairwise matrices; anchors are taken in chunks, the value stays the same"
    )
