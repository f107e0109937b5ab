"""The labelling stage: what a teacher's prediction must pass to become a pseudo-label."""

from __future__ import annotations

from pydantic import Field, model_validator

from sskd_core.config.base import Runtime, StrictModel


class PseudoLabelConfig(StrictModel):
    """Filter, sharding and health limits of pseudo-labels.

    The limits change no label, so they stay out of the fingerprint: after a refusal, raising one judges the shards
    that are there instead of labelling again.
    """

    score_threshold: float = Field(0.3, ge=0, le=1, description="least class score x mask score of an instance")
    class_thresholds: dict[str, float] = Field(default_factory=dict, description="per class name, over the common one")
    mask_threshold: float = Field(0.5, gt=0, lt=1)
    min_area: int = Field(16, ge=0, description="pixels at original size")
    max_instances: int = Field(100, ge=1, description="best instances an image")
    remove_overlaps: bool = Field(True, description="pixels belong to the best-scored instance alone")
    min_visible: float = Field(
        0.0,
        ge=0,
        le=1,
        description="least share of an instance that better ones leave it; a query model's doubles keep slivers",
    )
    flip: bool = Field(
        False, description="label the mirror image, too, and average the scores of what both show (Data Distillation)"
    )
    shard_images: int = Field(256, ge=1, description="images a shard")
    batch: Runtime[int] = Field(16, ge=1, description="images a forward pass")
    max_empty_rate: Runtime[float] = Field(
        0.9, ge=0, le=1, description="health: largest share of images without an instance"
    )
    max_class_drift: Runtime[float] = Field(
        0.6, ge=0, le=1, description="health: largest total-variation distance to the labelled class histogram"
    )

    @model_validator(mode="after")
    def _visible_needs_owners(self) -> PseudoLabelConfig:
        if self.min_visible and not self.remove_overlaps:
            raise ValueError("min_visible counts the pixels that overlaps take, so it needs remove_overlaps")
        return self


class PseudoLabelStageConfig(StrictModel):
    """What a labelling worker receives.

    Worker `worker` of `workers` owns every shard whose number is `worker` modulo `workers`.
    """

    label: PseudoLabelConfig
    workers: Runtime[int] = Field(1, ge=1)
    worker: Runtime[int] = Field(0, ge=0)
