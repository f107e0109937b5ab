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
    """Measure every model on the split that none has seen.

    Args:
        experiment: The experiment as JSON text, from `configure`.
        data: Manifest of `prepare`.
        adapted_teacher: Manifest of the teacher.
        supervised_student: Manifest of the student that saw labels alone.
        distilled_student: Manifest of the distilled student.
        refined_student: Manifest of the refined student.
        manifest: The new manifest: a pointer to results in the object store.
        metrics: The figures of the manifest.
    """
    from sskd_core.stages.component import run_component

    inputs = {
        "data": data.path,
        "adapted_teacher": adapted_teacher.path,
        "supervised_student": supervised_student.path,
        "distilled_student": distilled_student.path,
        "refined_student": refined_student.path,
    }
    metrics.metadata.update(run_component("evaluate", experiment, inputs, manifest.path))
