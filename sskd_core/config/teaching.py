"""Teacher and student in one run: who the teacher is at first, when it is written, and how much its labels count.

One state machine (Guided Distillation, Berrada et al. 2024, arXiv 2308.02668). The student trains from the first
iteration to the last with one optimiser and one schedule; at iteration B, the end of the *burn-in*, the teacher begins
to be written to. A *recipe* names a combination of these settings that the paper compares.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from sskd_core.config.base import Runtime, StrictModel
from sskd_core.config.contrast import StrongViewConfig

RECIPES: dict[str, dict[str, Any]] = {
    "supervised": {"teacher": "none", "copy_at_switch": False, "update": "fixed", "burn_in": 0, "lambda_u": 0.0},
    "no_burn_in_copy": {"teacher": "student", "copy_at_switch": True, "update": "ema", "burn_in": 0},
    "no_burn_in_keep": {"teacher": "checkpoint", "copy_at_switch": False, "update": "ema", "burn_in": 0},
    "fixed": {"teacher": "checkpoint", "copy_at_switch": False, "update": "fixed", "burn_in": 0},
    "standard": {"teacher": "none", "copy_at_switch": True, "update": "ema", "burn_in_lambda_u": 0.0},
    "guided": {"teacher": "checkpoint", "copy_at_switch": True, "update": "ema"},
    "data_distillation": {
        "labels": "shards",
        "teacher": "none",
        "copy_at_switch": False,
        "update": "fixed",
        "burn_in": 0,
    },
}
"""What each recipe fixes. No burn-in has two readings: with B = 0 the official code copies the untrained student over
the teacher at once (`copy`); keeping the trained one and averaging from the start (`keep`) is another experiment."""
Recipe = Literal["supervised", "no_burn_in_copy", "no_burn_in_keep", "fixed", "standard", "guided", "data_distillation"]
_RECIPE_VIEWS = {"data_distillation": "same"}
"""Settings that a recipe starts from and does not insist on."""

REASONS = ("no_object", "score", "soft_area", "area", "mask_score", "overlap")
"""Why a query of an online teacher gives no pseudo-instance, in the order in which the rules are asked."""

_LEAST_PATIENCE = 50


class OnlineLabelConfig(StrictModel):
    """What a teacher's query must pass to become a pseudo-instance. Thresholds are strict: equal is not enough.

    Areas are in cells of the mask logits (stride 4 of the augmented crop for Mask2Former): 5 cells are about 80 pixels.
    """

    class_threshold: float = Field(0.7, ge=0, le=1, description="class probability, over all classes and no object")
    class_thresholds: dict[str, float] = Field(default_factory=dict, description="per class name, over the common one")
    soft_area: float = Field(5.0, ge=0, description="sum of the mask's probabilities over all cells")
    hard_area: float | None = Field(None, ge=0, description="cells above 0.5; a mask can pass soft_area with none")
    mask_score: float | None = Field(None, ge=0, le=1, description="mean probability over the cells above 0.5")
    nms_iou: float | None = Field(
        None, gt=0, lt=1, description="an instance that overlaps a better one of its class by more is dropped"
    )
    nms_across_classes: bool = Field(False, description="likewise one that overlaps a better one of another class")
    mask_loss_score: float | None = Field(
        None, ge=0, le=1, description="mask score from which an instance teaches its mask; below, its class alone"
    )
    patience: Runtime[int | None] = Field(
        None, ge=1, description="health: iterations in a row without a pseudo-instance that stop the run; null: a tenth"
    )

    @model_validator(mode="after")
    def _across_needs_a_limit(self) -> OnlineLabelConfig:
        if self.nms_across_classes and self.nms_iou is None:
            raise ValueError("nms_across_classes needs nms_iou, the overlap from which an instance is a double")
        return self

    def patience_in(self, iterations: int) -> int:
        """Return how long a teacher may be silent in a run of so many iterations."""
        return self.patience or max(_LEAST_PATIENCE, iterations // 10)


class TeachingConfig(StrictModel):
    """Settings of the strategy `teacher_student`."""

    recipe: Runtime[Recipe | None] = Field(None, description="a named combination; other keys may only agree with it")
    labels: Literal["online", "shards"] = Field("online", description="labelled by the teacher, or stored before")
    teacher: Literal["checkpoint", "student", "none"] = Field(
        "checkpoint",
        description="at iteration 0: a trained network, the student's own values, or none until the switch",
    )
    burn_in: int | Literal["auto"] = Field(
        "auto", description="B, iterations; auto: until the student's val AP reaches the teacher's"
    )
    copy_at_switch: bool = Field(True, description="T := S at iteration B")
    update: Literal["ema", "fixed"] = Field("ema", description="of the teacher after the switch, every iteration")
    decay: float = Field(0.9996, ge=0, lt=1, description="a in T := a T + (1 - a) S")
    average_buffers: bool = Field(True, description="also of batch normalisation's statistics; false copies them")
    lambda_u: float = Field(2.0, ge=0, description="weight of the unlabelled terms after the switch")
    burn_in_lambda_u: float | None = Field(None, ge=0, description="before it; null: the same")
    ramp_iterations: int = Field(0, ge=0, description="lambda_u rises from 0 over so many iterations of the run")
    unlabeled_set: Literal["complement", "all"] = Field(
        "complement", description="the unlabelled images, or the labelled ones too, without their labels"
    )
    view: Literal["strong", "cutout", "same"] = Field(
        "strong", description="of the teacher's crop that the student sees: strong, strong with erased boxes, or as is"
    )
    strong_view: StrongViewConfig = Field(
        default_factory=lambda: StrongViewConfig(jitter_probability=0.8, blur_probability=0.5)
    )
    filter: OnlineLabelConfig = Field(default_factory=OnlineLabelConfig)

    @model_validator(mode="before")
    @classmethod
    def _fill_in_recipe(cls, values: Any) -> Any:
        """Lay the values over their recipe's; one that contradicts it is refused, for it would do something else."""
        if not isinstance(values, dict) or values.get("recipe") not in RECIPES:
            return values
        name = values["recipe"]
        if str(values.get("burn_in", "")).isdecimal():  # a number that came through a form's text field
            values = {**values, "burn_in": int(values["burn_in"])}
        for key, wanted in RECIPES[name].items():
            if key in values and values[key] != wanted:
                raise ValueError(f"recipe '{name}' means {key}: {wanted}, got {values[key]}; leave out one of them")
        start = {"view": _RECIPE_VIEWS[name]} if name in _RECIPE_VIEWS else {}
        return {**start, **RECIPES[name], **values}

    @model_validator(mode="after")
    def _makes_sense(self) -> TeachingConfig:
        if self.labels == "shards":
            if self.update != "fixed" or self.copy_at_switch:
                raise ValueError("labels 'shards' need no teacher; set update: fixed and copy_at_switch: false")
            return self
        if isinstance(self.burn_in, int) and self.burn_in < 0:
            raise ValueError("burn_in must be a number of iterations or auto")
        if self.burn_in == "auto" and self.teacher != "checkpoint":
            raise ValueError("burn_in 'auto' waits for the student to reach a trained teacher; set teacher: checkpoint")
        if self.teacher == "none" and self._teaches_before_it_is_there():
            raise ValueError(
                "teacher 'none' cannot label before the switch; set burn_in_lambda_u: 0 and copy_at_switch"
            )
        return self

    @property
    def unlabeled_used(self) -> bool:
        """Whether an unlabelled image is ever looked at."""
        return bool(self.lambda_u or self.burn_in_lambda_u)

    @property
    def is_written(self) -> bool:
        """Whether the teacher ever takes values of the student's, so that both must be the same network."""
        return self.copy_at_switch or self.update == "ema"

    def _teaches_before_it_is_there(self) -> bool:
        before = self.lambda_u if self.burn_in_lambda_u is None else self.burn_in_lambda_u
        waits = self.burn_in != 0 and before > 0
        return self.unlabeled_used and (waits or not self.copy_at_switch)
