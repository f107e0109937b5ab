"""The component `evaluate`."""

from kfp.dsl import Artifact, Input, Metrics, Output

from components.base import stage_component


@stage_component
def evaluate(
    experiment: str,
    data: Input[Artifact],
    adapted_teacher: Input[Artifact],
    supervised_student: Input[Artifact],
    distilled_student: Input[Artifact],
    refined_student: Input[Artifact],
    manifest: Output[Artifact],
    metrics: Output[Metrics],
) -> None:
    """Measure every model on the split that none has seen."""
    from sskd_core.stages.component import run_component

    inputs = {
        "data": data.path,
        "adapted_teacher": adapted_teacher.path,
        "supervised_student": supervised_student.path,
        "distilled_student": distilled_student.path,
        "refined_student": refined_student.path,
    }
    metrics.metadata.update(run_component("evaluate", experiment, inputs, manifest.path))
