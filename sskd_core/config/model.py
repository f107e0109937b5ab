"""Which network, from which weights, at which input size."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from sskd_core.config.base import StrictModel
from sskd_core.config.grounding import GroundingConfig

Family = Literal["mask2former", "dinov2_dpt", "grounded_sam", "mask_rcnn", "detectron2"]
REGION_FAMILIES = ("mask_rcnn", "detectron2")
"""Families that find boxes first and compute their own losses: no set loss, no feature levels, no ONNX file."""


class InputConfig(StrictModel):
    """How an image becomes a tensor: resized so that it fits `height` x `width`, then padded bottom and right.

    Heights and widths are pixels. `mean` and `std` are per RGB channel on a 0..1 scale.
    """

    height: int = Field(512, ge=32, le=4096)
    width: int = Field(1024, ge=32, le=4096)
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)


class ModelConfig(StrictModel):
    """A model family and where its weights come from.

    `weights` and `encoder_weights` take a local folder, a hub id, an `s3://` prefix, or `builtin:NAME` for the small
    weights that are shipped with the package. `arch` goes to the family's own configuration.
    """

    family: Family
    arch: dict[str, Any] = Field(default_factory=dict, description="the family's architecture, see docs/models.md")
    weights: str | None = Field(None, description="whole model; its own architecture then wins over `arch`")
    encoder_weights: str | None = Field(None, description="encoder only; the rest starts from random values")
    weights_digest: str | None = Field(
        None, pattern=r"^sha256:[0-9a-f]{64}$", description="of the files behind either; a run pins it when it starts"
    )
    grounding: GroundingConfig | None = Field(None, description="of family grounded_sam, which needs it")
    input: InputConfig = Field(default_factory=InputConfig)
    licence: str = Field("unknown", min_length=1, description="licence of the initial weights, inherited downstream")

    @model_validator(mode="after")
    def _one_source(self) -> ModelConfig:
        if self.weights is not None and self.encoder_weights is not None:
            raise ValueError("set 'weights' or 'encoder_weights', not both")
        return self

    @model_validator(mode="after")
    def _grounding_fits_family(self) -> ModelConfig:
        if (self.family == "grounded_sam") != (self.grounding is not None):
            raise ValueError("'grounding' belongs to family grounded_sam, which needs it")
        if self.grounding is None:
            return self
        if self.encoder_weights is not None:
            raise ValueError("family grounded_sam takes 'grounding.detector' and 'grounding.segmenter' or 'weights'")
        if self.weights is not None and self.grounding.detector is not None:
            raise ValueError("set 'weights' or 'grounding.detector' and 'grounding.segmenter', not both")
        return self
