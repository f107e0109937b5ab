"""The SSKD pipeline: an adapted teacher labels, a student learns from its labels and is refined on the real ones.

The graph is that of `sskd_core.config.experiment.NODES`, written out for KFP; a test holds the two together. One task
before it checks the parameters, and one after it reports on the run, however it ended.
"""

import functools
import inspect
from collections.abc import Mapping
from typing import Any

from kfp import dsl
from kfp.dsl import Artifact, Input

from components.adapt_teacher.component import adapt_teacher
from components.base import with_form
from components.collect_labels.component import collect_labels
from components.configure.component import configure
from components.distill.component import distill
from components.evaluate.component import evaluate
from components.export_onnx.component import export_onnx
from components.prepare.component import prepare
from components.pseudo_label.component import pseudo_label
from components.refine.component import refine
from components.register.component import register
from components.report.component import report
from components.self_train_teacher.component import self_train_teacher
from components.train_supervised.component import train_supervised
from pipelines.cluster import ClusterConfig
from pipelines.settings import CPU, GPU, LIGHT, placed
from sskd_core.config.parameters import LOCATING, PARAMETERS

NAME = "sskd"
DESCRIPTION = "From few labelled and many unlabelled images to a promoted ONNX student."
MANIFEST = "manifest"


def build(cluster: ClusterConfig) -> Any:
    """Return the pipeline with a platform's choices; the same object runs here and compiles for a cluster."""
    # KFP wants the pipelines inside of a pipeline made before it.
    rounds = {node: _labelling(cluster, node) for node in ("pseudo_label", "relabel")}

    @with_form(PARAMETERS, required=False)
    def sskd(**form: Any) -> None:
        """From few labelled and many unlabelled images to a promoted ONNX student.

        Args:
        """
        run_id = dsl.PIPELINE_JOB_ID_PLACEHOLDER
        located = {item.name: form[item.name] for item in LOCATING}
        last = placed(report(run_id=run_id, **located), cluster, LIGHT, "report", cached=False)
        with dsl.ExitHandler(last, name="run"):
            first = configure(run_id=run_id, secrets=cluster.secret_sources(), **form)
            placed(first, cluster, LIGHT, "configure", cached=False)
            _Graph(cluster, rounds, first.outputs["resolved"], first.outputs["Output"]).add_all()

    return dsl.pipeline(name=NAME, description=DESCRIPTION)(_positional(sskd))


class _Graph:
    """Adds the stages."""

    def __init__(self, cluster: ClusterConfig, rounds: Mapping[str, Any], experiment: Any, workers: Any) -> None:
        self._cluster, self._rounds, self._experiment, self._workers = cluster, rounds, experiment, workers

    def add_all(self) -> None:
        """Add every node."""
        data = self._add(prepare, CPU, "prepare")
        teacher = self._add(adapt_teacher, GPU, "adapt_teacher", data=data)
        labels = self._label("pseudo_label", data, teacher)
        teacher = self._add(self_train_teacher, GPU, "self_train_teacher", data=data, labels=labels)
        labels = self._label("relabel", data, teacher)
        baseline = self._add(train_supervised, GPU, "train_supervised", data=data)
        distilled = self._add(distill, GPU, "distill", data=data, labels=labels)
        refined = self._add(refine, GPU, "refine", data=data, student=distilled)
        evaluation = self._add(
            evaluate,
            GPU,
            "evaluate",
            data=data,
            adapted_teacher=teacher,
            supervised_student=baseline,
            distilled_student=distilled,
            refined_student=refined,
        )
        onnx = self._add(export_onnx, CPU, "export_onnx", data=data, student=refined)
        ends = {"data": data, "student": refined, "evaluation": evaluation, "onnx": onnx}
        # Its effect lies outside of the store, so it makes sure of it in every run.
        self._add(register, LIGHT, "register", cached=False, **ends)

    def _add(self, component: Any, kind: str, place: str, /, cached: bool = True, **inputs: Any) -> Any:
        """Add a task and return its manifest."""
        task = component(experiment=self._experiment, **inputs)
        return placed(task, self._cluster, kind, place, cached).outputs[MANIFEST]

    def _label(self, node: str, data: Any, teacher: Any) -> Any:
        """Add a labelling node and return its manifest."""
        task = self._rounds[node](experiment=self._experiment, workers=self._workers, data=data, teacher=teacher)
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


def _positional(function: Any) -> Any:
    """Let KFP, which calls a pipeline's function with values alone, call one that takes them by name."""

    @functools.wraps(function)
    def called(*values: Any) -> None:
        function(**dict(zip(inspect.signature(function).parameters, values, strict=True)))

    return called
