"""The Guided Distillation pipeline: a teacher trained on the labels, and a student that learns beside it.

The student's run has the burn-in and the distillation in one; teacher and student are the same network. The graph is
that of `sskd_core.config.graph`; `pipelines/graph.py` has what all methods share.
"""

from typing import Any

from components.adapt_teacher.component import adapt_teacher
from components.distill.component import distill
from components.evaluate.component import evaluate
from components.export_onnx.component import export_onnx
from components.prepare.component import prepare
from components.register.component import register
from pipelines.cluster import ClusterConfig
from pipelines.graph import Graph, method_pipeline
from pipelines.settings import CPU, GPU, LIGHT
from sskd_core.config.parameters import GUIDED_PARAMETERS

NAME = "guided"
DESCRIPTION = "From few labelled and many unlabelled images to a promoted model, by Guided Distillation."


def build(cluster: ClusterConfig) -> Any:
    """Return the pipeline with a platform's choices; the same object runs here and compiles for a cluster."""
    return method_pipeline(NAME, DESCRIPTION, GUIDED_PARAMETERS, cluster, _add_all)


def _add_all(graph: Graph) -> None:
    """Add every node."""
    data = graph.add(prepare, CPU, "prepare")
    teacher = graph.add(adapt_teacher, GPU, "adapt_teacher", data=data)
    student = graph.add(distill, GPU, "distill", data=data, teacher=teacher)
    evaluation = graph.add(evaluate, GPU, "evaluate", data=data, supervised_student=teacher, distilled_student=student)
    onnx = graph.add(export_onnx, CPU, "export_onnx", data=data, student=student)
    ends = {"data": data, "student": student, "evaluation": evaluation, "onnx": onnx}
    # Its effect lies outside of the store, so it makes sure of it in every run.
    graph.add(register, LIGHT, "register", cached=False, **ends)
