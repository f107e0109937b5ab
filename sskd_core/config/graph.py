"""The graph of each method: which stages run where, and which manifests they read.

A *node* is one place of a pipeline; several nodes can run the same *stage* (SSKD adapts the teacher twice). The files
of `pipelines/` wire the same nodes for KFP.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sskd_core.errors import ConfigError

Method = Literal["sskd", "guided"]
BASELINE = "train_supervised"
"""The student that learns from annotations alone; it needs nothing but the data."""
BESIDE_BASELINE = "distill"
"""The longest training: on a machine with cores for two, the baseline runs beside it."""


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


SSKD: tuple[Node, ...] = (
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
GUIDED: tuple[Node, ...] = (
    Node("prepare", "prepare", {}),
    Node("adapt_teacher", "adapt_teacher", {"data": "prepare"}),
    Node("distill", "distill", {"data": "prepare", "teacher": "adapt_teacher"}),
    # The teacher is the same network trained on the labelled images alone, so it is the baseline, too.
    Node(
        "evaluate",
        "evaluate",
        {"data": "prepare", "supervised_student": "adapt_teacher", "distilled_student": "distill"},
    ),
    Node("export_onnx", "export_onnx", {"data": "prepare", "student": "distill"}),
    Node(
        "register",
        "register",
        {"data": "prepare", "student": "distill", "evaluation": "evaluate", "onnx": "export_onnx"},
    ),
)
GRAPHS: dict[Method, tuple[Node, ...]] = {"sskd": SSKD, "guided": GUIDED}
TRAINING_STAGES = ("adapt_teacher", "train_supervised", "distill", "refine")


def node(name: str, method: Method = "sskd") -> Node:
    """Return the node called `name`.

    Raises:
        ConfigError: the method has none.
    """
    for candidate in GRAPHS[method]:
        if candidate.name == name:
            return candidate
    raise ConfigError(f"no stage '{name}'; the stages are: {', '.join(item.name for item in GRAPHS[method])}")


def training_nodes(method: Method) -> list[str]:
    """Return the names of the nodes that train a network."""
    return [item.name for item in GRAPHS[method] if item.stage in TRAINING_STAGES]
