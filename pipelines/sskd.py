"""The SSKD pipeline: an adapted teacher labels, a student learns from its labels and is refined on the real ones.

The graph is that of `sskd_core.config.experiment.NODES`, written out for KFP; a test holds the two together. Results
are cached by the stages' own manifests, which look at code, settings and inputs, so KFP's cache is off.
"""

from typing import Any

from kfp import dsl
from kfp.dsl import Artifact

from components.adapt_teacher import adapt_teacher, self_train_teacher
from components.collect_labels import collect_labels
from components.distill import distill
from components.evaluate import evaluate
from components.export_onnx import export_onnx
from components.prepare import prepare
from components.pseudo_label import pseudo_label
from components.refine import refine
from components.register import register
from components.report import report
from components.train_supervised import train_supervised

NAME = "sskd"
MANIFEST = "manifest"


def _task(component: Any, name: str, experiment: Any, **inputs: Any) -> Any:
    """Add a task to the pipeline under the node's own name."""
    return component(experiment=experiment, **inputs).set_display_name(name).set_caching_options(False)


def _label(name: str, experiment: Any, workers: Any, data: Any, teacher: Any) -> Any:
    """Add a labelling node: a task a worker, and one that collects what they wrote. Returns its manifest."""
    with dsl.ParallelFor(workers, name=f"{name}-workers") as worker:
        task = _task(pseudo_label, f"{name} worker", experiment, node=name, worker=worker, data=data, teacher=teacher)
    written = dsl.Collected(task.outputs[MANIFEST])
    collected = _task(collect_labels, name, experiment, node=name, data=data, teacher=teacher, workers=written)
    return collected.outputs[MANIFEST]


@dsl.pipeline(  # type: ignore[untyped-decorator]
    name=NAME, description="From few labelled and many unlabelled images to a promoted ONNX student."
)
def sskd(experiment: str, label_workers: list = [0]) -> Artifact:  # type: ignore[type-arg]  # noqa: B006
    """Run the whole job.

    Args:
        experiment: the experiment as JSON text, as `sskd describe FILE --json` prints it under `experiment`.
        label_workers: the numbers of the labelling workers, 0 to `label_workers` of the experiment minus one.

    Returns:
        The manifest of the report.
    """

    def add(component: Any, name: str, **inputs: Any) -> Any:
        return _task(component, name, experiment, **inputs).outputs[MANIFEST]

    done: dict[str, Any] = {}
    data = done["prepare"] = add(prepare, "prepare")
    teacher = done["adapt_teacher"] = add(adapt_teacher, "adapt_teacher", data=data)
    labels = done["pseudo_label"] = _label("pseudo_label", experiment, label_workers, data, teacher)
    teacher = done["self_train_teacher"] = add(self_train_teacher, "self_train_teacher", data=data, labels=labels)
    labels = done["relabel"] = _label("relabel", experiment, label_workers, data, teacher)
    baseline = done["train_supervised"] = add(train_supervised, "train_supervised", data=data)
    distilled = done["distill"] = add(distill, "distill", data=data, labels=labels)
    refined = done["refine"] = add(refine, "refine", data=data, student=distilled)
    evaluation = done["evaluate"] = add(
        evaluate,
        "evaluate",
        data=data,
        adapted_teacher=teacher,
        supervised_student=baseline,
        distilled_student=distilled,
        refined_student=refined,
    )
    onnx = done["export_onnx"] = add(export_onnx, "export_onnx", data=data, student=refined)
    done["register"] = add(register, "register", data=data, student=refined, evaluation=evaluation, onnx=onnx)
    return add(report, "report", **done)
