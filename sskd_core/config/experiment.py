"""One experiment: everything that a run needs, in one file, and the stage configuration of each node cut from it."""

from __future__ import annotations

from typing import Any

from pydantic import Field, model_validator

from sskd_core.config.base import Runtime, StrictModel
from sskd_core.config.data import DataConfig, PrepareConfig
from sskd_core.config.finish import EvaluateConfig, ExportConfig, RegisterConfig
from sskd_core.config.gate import GateConfig
from sskd_core.config.graph import BASELINE, GRAPHS, Method, Node, node, training_nodes
from sskd_core.config.label import PseudoLabelConfig, PseudoLabelStageConfig
from sskd_core.config.model import REGION_FAMILIES, ModelConfig
from sskd_core.config.retrain import RetrainConfig, TakeOver
from sskd_core.config.storage import StorageConfig
from sskd_core.config.tracking import TrackingConfig
from sskd_core.config.train import TrainConfig, TrainStageConfig

StageConfig = PrepareConfig | TrainStageConfig | PseudoLabelStageConfig | EvaluateConfig | ExportConfig | RegisterConfig


class StagesConfig(StrictModel):
    """Per-node settings; the key is the node's name, except that both labelling rounds share `pseudo_label`.

    Each training node of the method has its settings, and no other.
    """

    adapt_teacher: TrainConfig | None = None
    self_train_teacher: TrainConfig | None = None
    pseudo_label: PseudoLabelConfig = Field(default_factory=PseudoLabelConfig)
    train_supervised: TrainConfig | None = None
    distill: TrainConfig | None = None
    refine: TrainConfig | None = None
    evaluate: EvaluateConfig = Field(default_factory=EvaluateConfig)
    export_onnx: ExportConfig = Field(default_factory=ExportConfig)
    gate: GateConfig = Field(default_factory=GateConfig)


class ExperimentConfig(StrictModel):
    """A whole run of a method's pipeline."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")
    method: Method = "sskd"
    seed: int = Field(0, ge=0, lt=2**31, description="reaches every generator of every stage")
    storage: StorageConfig = Field(default_factory=StorageConfig)
    tracking: TrackingConfig = Field(default_factory=TrackingConfig)
    data: DataConfig
    teacher: ModelConfig
    student: ModelConfig
    stages: StagesConfig
    label_workers: Runtime[int] = Field(1, ge=1, le=100, description="parallel labelling tasks")
    side_by_side: Runtime[int] = Field(
        1, ge=1, le=2, description="trainings at once where one machine runs all: 2 trains the baseline beside distill"
    )
    threads: Runtime[int | None] = Field(None, ge=1, description="CPU threads a stage; null for all cores")
    retrain: Runtime[RetrainConfig] = Field(default_factory=RetrainConfig)
    takes_over: TakeOver | None = Field(None, description="set by a retrain: what stands from the champion's run")

    @model_validator(mode="before")
    @classmethod
    def _guided_student_is_the_teachers_network(cls, values: Any) -> Any:
        """Save the user saying the same network twice."""
        if isinstance(values, dict) and values.get("method") == "guided" and "teacher" in values:
            return {"student": values["teacher"], **values}
        return values

    @model_validator(mode="after")
    def _stages_are_those_of_the_method(self) -> ExperimentConfig:
        needed = training_nodes(self.method)
        for name, settings in self.stages:
            if name in needed and settings is None:
                raise ValueError(f"'stages.{name}' is required")
            if isinstance(settings, TrainConfig) and name not in needed:
                raise ValueError(f"stages.{name}: method '{self.method}' has no such stage; leave it out")
        return self

    @model_validator(mode="after")
    def _refined_by_annotations_alone(self) -> ExperimentConfig:
        refine = self.stages.refine
        if refine is not None and (refine.strategy != "supervised" or refine.lambda_pxl):
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

    @model_validator(mode="after")
    def _guided_by_its_teacher(self) -> ExperimentConfig:
        distill = self.stages.distill
        if self.method == "guided" and distill is not None:
            if distill.teaching is None:
                raise ValueError("stages.distill: method 'guided' needs strategy: teacher_student")
            if distill.teaching.labels != "online":
                raise ValueError(
                    "stages.distill: method 'guided' stores no labels; run method 'sskd' for labels: shards"
                )
        return self

    @property
    def trains_baseline_beside(self) -> bool:
        """Whether, where one machine runs all, the supervised student trains beside `distill`."""
        return self.side_by_side > 1 and any(item.name == BASELINE for item in self.nodes)

    @property
    def nodes(self) -> tuple[Node, ...]:
        """The method's graph, in order."""
        return GRAPHS[self.method]

    def node(self, name: str) -> Node:
        """Return a node of the method's graph.

        Raises:
            ConfigError: there is none of that name.
        """
        return node(name, self.method)

    def stage_config(self, name: str, worker: int = 0) -> StageConfig:
        """Cut the configuration of one node.

        Args:
            name: node name, see `nodes`.
            worker: which labelling worker, for a node that fans out.

        Raises:
            ConfigError: no such node.
        """
        stages = self.stages
        match self.node(name).stage:
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
