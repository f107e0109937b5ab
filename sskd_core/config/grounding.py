"""The `grounded_sam` teacher: the networks that it is made of, what it asks for, and what it takes for an answer.

Defaults are those of the SSKD specification, section 2.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from sskd_core.config.base import StrictModel

Probability = Annotated[float, Field(ge=0, le=1)]
Digest = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]


class GroundingConfig(StrictModel):
    """Prompts, thresholds and what is trained.

    Detection scores are probabilities of the detector. A class is asked for by its name, underscores read as spaces,
    unless `phrases` gives it others.
    """

    detector: str | None = Field(None, description="published MM-Grounding-DINO with its tokenizer.json")
    detector_digest: Digest | None = Field(None, description="of its files; a run pins it when it starts")
    segmenter: str | None = Field(None, description="published SAM 2")
    segmenter_digest: Digest | None = Field(None, description="of its files; a run pins it when it starts")
    phrases: dict[str, Annotated[list[str], Field(min_length=1)]] = Field(
        default_factory=dict, description="class name -> what to ask for in its place, one or several synonyms"
    )
    span_score: Literal["mean", "max"] = Field(
        "mean", description="of a phrase's tokens; the best phrase of a class gives its score"
    )
    score_threshold: Probability = Field(0.3, description="a box needs a higher detection score")
    class_thresholds: dict[str, Probability] = Field(default_factory=dict, description="per class name, over that one")
    max_boxes: int = Field(100, ge=1, description="best boxes an image")
    score: Literal["detection", "predicted_iou"] = Field(
        "detection", description="an instance's score: the detector's, or the IoU that SAM predicts of its mask"
    )
    overlaps: Literal["detection_order", "score", "keep"] = Field(
        "detection_order", description="who keeps a pixel of several masks: the first detected, the best score, all"
    )
    train_mask_decoder: bool = Field(False, description="adapt SAM's mask decoder on the boxes of the annotations")
    decoder_instances: int = Field(16, ge=1, description="instances an image that a step trains the decoder on")
    contrast_encoder: Literal["segmenter", "detector"] | None = Field(
        "segmenter", description="whose image encoder the contrastive term trains; null for a run without the term"
    )

    @model_validator(mode="after")
    def _both_or_neither(self) -> GroundingConfig:
        if (self.detector is None) != (self.segmenter is None):
            missing = "detector" if self.detector is None else "segmenter"
            raise ValueError(f"the teacher is made of a detector and a segmenter; set '{missing}', too")
        return self
