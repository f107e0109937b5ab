"""The training engine's configuration: one model for every training stage."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from sskd_core.config.base import Runtime, StrictModel
from sskd_core.config.contrast import PixelContrastConfig
from sskd_core.config.model import REGION_FAMILIES, ModelConfig
from sskd_core.config.teaching import TeachingConfig


class OptimizerConfig(StrictModel):
    """AdamW and its schedule."""

    lr: float = Field(1e-4, gt=0)
    backbone_lr_multiplier: float = Field(0.1, ge=0, le=1, description="0 freezes the encoder")
    layer_decay: float = Field(
        1.0, gt=0, le=1, description="factor of the rate from each layer of a ViT or Swin encoder to the one before it"
    )
    adapter_lr_multiplier: float = Field(
        1.0, gt=0, le=1, description="of what joins encoder and decoder, such as a ViT's pyramid"
    )
    weight_decay: float = Field(0.05, ge=0)
    clip_grad_norm: float = Field(0.01, gt=0, description="global L2 norm over all parameters")
    schedule: Literal["poly", "cosine", "constant", "step"] = "poly"
    milestones: tuple[int, ...] = Field((), description="of `step`: iterations at which the rate falls to a tenth")
    poly_power: float = Field(0.9, gt=0)
    warmup_iterations: int = Field(0, ge=0)

    @model_validator(mode="after")
    def _milestones_belong_to_step(self) -> OptimizerConfig:
        if (self.schedule == "step") != bool(self.milestones) or list(self.milestones) != sorted(set(self.milestones)):
            raise ValueError("schedule 'step' and no other needs milestones, increasing numbers of iterations")
        return self


class AugmentConfig(StrictModel):
    """The weak view: geometry, and light colour. Sizes are relative to the model's input."""

    scale: tuple[float, float] = (0.5, 2.0)
    crop: tuple[int, int] | None = Field(
        None, description="height and width of the training crop, pixels; without it the model's input"
    )
    horizontal_flip: float = Field(0.5, ge=0, le=1)
    brightness: float = Field(0.125, ge=0, le=1)
    contrast: float = Field(0.5, ge=0, le=1)
    saturation: float = Field(0.5, ge=0, le=1)
    hue: float = Field(0.05, ge=0, le=0.5)
    drop_empty_targets: bool = Field(
        True, description="leave out objects of which the crop keeps next to nothing; false: they stay, without a mask"
    )

    @model_validator(mode="after")
    def _ordered(self) -> AugmentConfig:
        if not 0 < self.scale[0] <= self.scale[1]:
            raise ValueError("scale must be two increasing positive numbers")
        if self.crop is not None and min(self.crop) < 32:
            raise ValueError("crop must be at least 32 pixels on both sides")
        return self


class SetCriterionConfig(StrictModel):
    """Mask2Former's set loss (Cheng et al. 2022, section 3.2; weights of its released configuration)."""

    class_weight: float = Field(2.0, ge=0)
    mask_weight: float = Field(5.0, ge=0)
    dice_weight: float = Field(5.0, ge=0)
    no_object_weight: float = Field(0.1, ge=0, le=1)
    num_points: int = Field(12_544, ge=1, description="points a mask is compared at")
    oversample_ratio: float = Field(3.0, ge=1)
    importance_ratio: float = Field(0.75, ge=0, le=1)


class TrainConfig(StrictModel):
    """One run of the engine: what is trained, from what, on what, for how long."""

    strategy: Literal["supervised", "semi_supervised", "teacher_student"] = "supervised"
    iterations: int = Field(90_000, ge=0, description="0 delivers the initial weights")
    labeled_batch: int = Field(4, ge=1, description="labelled images a step")
    labeled_sampler: Literal["uniform", "repeat_factor"] = Field(
        "uniform", description="repeat_factor draws images with rare classes more often"
    )
    repeat_threshold: float = Field(
        10.0, gt=0, description="t of the repeat factor sqrt(t / f), f the share of the images with a class"
    )
    unlabeled_batch: int = Field(4, ge=0, description="pseudo-labelled images a step; 0 for `supervised`")
    lambda_semi: float = Field(1.0, ge=0, description="weight of the pseudo-label term")
    lambda_pxl: float = Field(0.0, ge=0, description="weight of the pixel contrastive term; 0 leaves it out")
    contrast: PixelContrastConfig = Field(default_factory=PixelContrastConfig)
    teaching: TeachingConfig | None = Field(None, description="of strategy `teacher_student`, which needs it")
    optimizer: OptimizerConfig = Field(default_factory=OptimizerConfig)
    augment: AugmentConfig = Field(default_factory=AugmentConfig)
    criterion: SetCriterionConfig = Field(default_factory=SetCriterionConfig)
    ema_decay: float | None = Field(None, gt=0, lt=1, description="keep a moving average of the weights and deliver it")
    val_every: int = Field(5_000, ge=1, description="iterations between evaluations on val")
    select: Literal["best", "last"] = Field("best", description="deliver the weights of the best val AP, or the last")
    checkpoint_seconds: Runtime[float] = Field(300.0, ge=0, description="time between checkpoints")
    log_every: Runtime[int] = Field(20, ge=1)
    loader_workers: Runtime[int] = Field(0, ge=0)
    amp: bool = Field(True, description="bfloat16 autocast on CUDA")
    processes: Runtime[int | Literal["auto"]] = Field(
        1, description="of one machine, that divide each step's images among them; auto: one for each GPU"
    )
    process_timeout_minutes: Runtime[float] = Field(
        30.0,
        gt=0,
        description="for which a process waits for the others before it gives up; evaluation on val included",
    )

    @model_validator(mode="after")
    def _batches_fit_strategy(self) -> TrainConfig:
        if self.strategy == "semi_supervised" and self.unlabeled_batch == 0:
            raise ValueError("strategy 'semi_supervised' needs unlabeled_batch >= 1")
        if self.strategy == "supervised" and self.unlabeled_batch != 0:
            raise ValueError("strategy 'supervised' uses no pseudo-labels; set unlabeled_batch: 0")
        self._check_processes()
        if (self.strategy == "teacher_student") != (self.teaching is not None):
            raise ValueError("'teaching' belongs to strategy 'teacher_student', which needs it")
        if self.teaching is not None:
            self._check_teaching(self.teaching)
        alone = self.labeled_batch + self.unlabeled_batch < 2
        if alone and self.lambda_pxl and self.contrast.negative_scope == "cross_image":
            raise ValueError("negative_scope 'cross_image' needs at least two images a step; raise labeled_batch")
        return self

    def indivisible(self, processes: int) -> str | None:
        """Return which batch cannot be divided among so many processes, in words, or None."""
        for name, batch in (("labeled_batch", self.labeled_batch), ("unlabeled_batch", self.unlabeled_batch)):
            if batch % processes:
                return f"{name} of {batch} images a step cannot be divided among {processes} processes"
        return None

    def _check_processes(self) -> None:
        if self.processes == "auto":
            return
        if self.processes < 1:
            raise ValueError("processes must be at least 1, or auto")
        if problem := self.indivisible(self.processes):
            raise ValueError(problem)

    def _check_teaching(self, teaching: TeachingConfig) -> None:
        if teaching.unlabeled_used and self.unlabeled_batch == 0:
            raise ValueError("strategy 'teacher_student' with lambda_u > 0 needs unlabeled_batch >= 1")
        if self.lambda_pxl:
            raise ValueError("strategy 'teacher_student' has no contrastive term; set lambda_pxl: 0")
        if isinstance(teaching.burn_in, int) and teaching.burn_in and teaching.burn_in >= self.iterations:
            raise ValueError(
                f"teaching.burn_in of {teaching.burn_in} iterations is not shorter than the run of {self.iterations}, "
                "so the teacher would never be written; shorten it, or set recipe: fixed"
            )


class TrainStageConfig(StrictModel):
    """What a training stage receives: the model, the run, and the seed."""

    role: Literal["teacher", "student"]
    model: ModelConfig
    train: TrainConfig
    seed: int = Field(0, ge=0)

    @model_validator(mode="after")
    def _terms_fit_family(self) -> TrainStageConfig:
        if self.model.family in REGION_FAMILIES and self.train.lambda_pxl:
            raise ValueError(f"family {self.model.family} shows no feature levels; set train.lambda_pxl: 0")
        return self
