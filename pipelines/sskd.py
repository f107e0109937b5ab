"""The SSKD pipeline: an adapted teacher labels, a student learns from its labels and is refined on the real ones.

The graph is that of `sskd_core.config.graph`, written out for KFP; a test holds the two together. One task before it
checks the parameters, and one after it reports on the run, however it ended.
"""

from collections.abc import Mapping
from typing import Any

from kfp import dsl
from kfp.dsl import Artifact, Input

from components.adapt_teacher.component import adapt_teacher
from components.collect_labels.component import collect_labels
from components.distill.component import distill
from components.evaluate.component import evaluate
from components.export_onnx.component import export_onnx
from components.prepare.component import prepare
from components.pseudo_label.component import pseudo_label
from components.refine.component import refine
from components.register.component import register
from components.self_train_teacher.component import self_train_teacher
from components.train_supervised.component import train_supervised
from pipelines.cluster import ClusterConfig
from pipelines.graph import MANIFEST, Graph, method_pipeline
from pipelines.settings import CPU, GPU, LIGHT, placed
from sskd_core.config.parameters import PARAMETERS

NAME = "sskd"
DESCRIPTION = "From few labelled and many unlabelled images to a promoted ONNX student."


def build(cluster: ClusterConfig) -> Any:
    """Return the pipeline with a platform's choices; the same object runs here and compiles for a cluster."""
    # KFP wants the pipelines inside of a pipeline made before it.
    rounds = {node: _labelling(cluster, node) for node in ("pseudo_label", "relabel")}
    return method_pipeline(NAME, DESCRIPTION, PARAMETERS, cluster, lambda graph: _add_all(graph, rounds))


def _add_all(graph: Graph, rounds: Mapping[str, Any]) -> None:
    """Add every node."""
    data = graph.add(prepare, CPU, "prepare")
    teacher = graph.add(adapt_teacher, GPU, "adapt_teacher", data=data)
    labels = _label(graph, rounds, "pseudo_label", data, teacher)
    teacher = graph.add(self_train_teacher, GPU, "self_train_teacher", data=data, labels=labels)
    labels = _label(graph, rounds, "relabel", data, teacher)
    baseline = graph.add(train_supervised, GPU, "train_supervised", data=data)
    distilled = graph.add(distill, GPU, "distill", data=data, labels=labels)
    refined = graph.add(refine, GPU, "refine", data=data, student=distilled)
    evaluation = graph.add(
        evaluate,
        GPU,
        "evaluate",
        data=data,
        adapted_teacher=teacher,
        supervised_student=baseline,
        distilled_student=distilled,
        refined_student=refined,
    )
    onnx = graph.add(export_onnx, CPU, "export_onnx", data=data, student=refined)
    ends = {"data": data, "student": refined, "evaluation": evaluation, "onnx": onnx}
    # Its effect lies outside of the store, so it makes sure of it in every run.
    graph.add(register, LIGHT, "register", cached=False, **ends)


def _label(graph: Graph, rounds: Mapping[str, Any], node: str, data: Any, teacher: Any) -> Any:
    """Add a labelling node and return its manifest."""
    task = rounds[node](experiment=graph.experiment, workers=graph.workers, data=data, teacher=teacher)
    return task.set_display_name(f"{node} round").output


def _labelling(cluster: ClusterConfig, node: str) -> Any:
    """Return a labelling node: a task a worker, and one that collects what they wrote.

    A pipeline of its own, because the local runner gives a loop no other parameters than its pipeline's.
    """

    @dsl.pipeline(name=f"{node}-round", description="Label all unlabelled images, split over workers.")  # type: ignore[untyped-decorator]
    def label(experiment: str, workers: list, data: Input[Artifact], teacher: Input[Artifact]) -> Artifact:  # type: ignore[type-arg]
        inputs = {"experiment": experiment, "node": node, "data": data, "teacher": teacher}
        with dsl.ParallelFor(workers, name="workers") as worker:
            task = placed(pseudo_label(worker=worker, **inputs), cluster, GPU, f"{node} worker")
        collected = collect_labels(workers=dsl.Collected(task.outputs[MANIFEST]), **inputs)
        return placed(collected, cluster, LIGHT, node).outputs[MANIFEST]

    return label
