"""One experiment: everything that a run needs, in one file, and the stage configuration of each node cut from it.

A *node* is one place of the pipeline; several nodes can run the same *stage* (the teacher is adapted twice). `NODES`
lists them in order; `pipelines/sskd.py` wires the same nodes for KFP.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pydantic import Field, model_validator

from sskd_core.config.base import Runtime, StrictModel
from sskd_core.config.data import DataConfig, PrepareConfig
from sskd_core.config.finish import EvaluateConfig, ExportConfig, RegisterConfig
from sskd_core.config.gate import GateConfig
from sskd_core.config.label import PseudoLabelConfig, PseudoLabelStageConfig
from sskd_core.config.model import REGION_FAMILIES, ModelConfig
from sskd_core.config.retrain import RetrainConfig, TakeOver
from sskd_core.config.storage import StorageConfig
from sskd_core.config.tracking import TrackingConfig
from sskd_core.config.train import TrainConfig, TrainStageConfig
from sskd_core.errors import ConfigError

StageConfig = PrepareConfig | TrainStageConfig | PseudoLabelStageConfig | EvaluateConfig | ExportConfig | RegisterConfig


@dataclass(frozen=True)
class Node:
    """One place of the pipeline.

    Attributes:
        name: unique in the pipeline.
        stage: which stage runs here.
        inputs: input name of the stage -> node whose manifest it receives.
        fan_out: whether `workers` tasks share it.
    """

    name: str
    stage: str
    inputs: dict[str, str]
    fan_out: bool = False


NODES: tuple[Node, ...] = (
    Node("prepare", "prepare", {}),
    Node("adapt_teacher", "adapt_teacher", {"data": "prepare"}),
    Node("pseudo_label", "pseudo_label", {"data": "prepare", "teacher": "adapt_teacher"}, fan_out=True),
    Node("self_train_teacher", "adapt_teacher", {"data": "prepare", "labels": "pseudo_label"}),
    Node("relabel", "pseudo_label", {"data": "prepare", "teacher": "self_train_teacher"}, fan_out=True),
    Node("train_supervised", "train_supervised", {"data": "prepare"}),
    Node("distill", "distill", {"data": "prepare", "labels": "relabel"}),
    Node("refine", "refine", {"data": "prepare", "student": "distill"}),
    Node(
        "evaluate",
        "evaluate",
        {
            "data": "prepare",
            "adapted_teacher": "self_train_teacher",
            "supervised_student": "train_supervised",
            "distilled_student": "distill",
            "refined_student": "refine",
        },
    ),
    Node("export_onnx", "export_onnx", {"data": "prepare", "student": "refine"}),
    Node(
        "register",
        "register",
        {"data": "prepare", "student": "refine", "evaluation": "evaluate", "onnx": "export_onnx"},
    ),
)
TRAINING_STAGES = ("adapt_teacher", "train_supervised", "distill", "refine")


def node(name: str) -> Node:
    """Return the node called `name`.

    Raises:
        ConfigError: there is none.
    """
    for candidate in NODES:
        if candidate.name == name:
            return candidate
    raise ConfigError(f"no stage '{name}'; the stages are: {', '.join(item.name for item in NODES)}")


class StagesConfig(StrictModel):
    """Per-node settings; the key is the node's name, except that both labelling rounds share `pseudo_label`."""

    adapt_teacher: TrainConfig
    self_train_teacher: TrainConfig
    pseudo_label: PseudoLabelConfig = Field(default_factory=PseudoLabelConfig)
    train_supervised: TrainConfig
    distill: TrainConfig
    refine: TrainConfig
    evaluate: EvaluateConfig = Field(default_factory=EvaluateConfig)
    export_onnx: ExportConfig = Field(default_factory=ExportConfig)
    gate: GateConfig = Field(default_factory=GateConfig)


class ExperimentConfig(StrictModel):
    """A whole run of the SSKD pipeline."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")
    method: Literal["sskd"] = "sskd"
    seed: int = Field(0, ge=0, lt=2**31, description="reaches every generator of every stage")
    storage: StorageConfig = Field(default_factory=StorageConfig)
    tracking: TrackingConfig = Field(default_factory=TrackingConfig)
    data: DataConfig
    teacher: ModelConfig
    student: ModelConfig
    stages: StagesConfig
    label_workers: Runtime[int] = Field(1, ge=1, le=100, description="parallel labelling tasks")
    side_by_side: Runtime[int] = Field(
        1, ge=1, le=2, description="trainings at once where one machine runs all: 2 trains the baseline beside the rest"
    )
    threads: Runtime[int | None] = Field(None, ge=1, description="CPU threads a stage; null for all cores")
    retrain: Runtime[RetrainConfig] = Field(default_factory=RetrainConfig)
    takes_over: TakeOver | None = Field(None, description="set by a retrain: what stands from the champion's run")

    @model_validator(mode="after")
    def _refined_by_annotations_alone(self) -> ExperimentConfig:
        if self.stages.refine.strategy != "supervised" or self.stages.refine.lambda_pxl:
            raise ValueError("stages.refine: refinement is supervised only; set strategy: supervised and lambda_pxl: 0")
        return self

    @model_validator(mode="after")
    def _student_can_be_exported(self) -> ExperimentConfig:
        if self.student.family in REGION_FAMILIES:
            raise ValueError(
                f"student.family {self.student.family} has no portable ONNX file; it can be the teacher; for the "
                "student choose dinov2_dpt or mask2former"
            )
        return self

    def stage_config(self, name: str, worker: int = 0) -> StageConfig:
        """Cut the configuration of one node.

        Args:
            name: node name, see `NODES`.
            worker: which labelling worker, for a node that fans out.

        Raises:
            ConfigError: no such node.
        """
        stages = self.stages
        match node(name).stage:
            case "prepare":
                return PrepareConfig(data=self.data, seed=self.seed)
            case "adapt_teacher":
                return TrainStageConfig(role="teacher", model=self.teacher, train=getattr(stages, name), seed=self.seed)
            case "train_supervised" | "distill" | "refine":
                return TrainStageConfig(role="student", model=self.student, train=getattr(stages, name), seed=self.seed)
            case "pseudo_label":
                return PseudoLabelStageConfig(label=stages.pseudo_label, workers=self.label_workers, worker=worker)
            case "evaluate":
                return stages.evaluate
            case "export_onnx":
                return stages.export_onnx
            case _:
                return RegisterConfig(gate=stages.gate, tracking=self.tracking)
