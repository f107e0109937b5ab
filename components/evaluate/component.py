"""The component `evaluate`."""

from typing import Optional

from kfp.dsl import Artifact, Input, Metrics, Output

from components.base import present, stage_component


@stage_component
def evaluate(
    experiment: str,
    data: Input[Artifact],
    supervised_student: Input[Artifact],
    distilled_student: Input[Artifact],
    manifest: Output[Artifact],
    metrics: Output[Metrics],
    adapted_teacher: Optional[Input[Artifact]] = None,  # noqa: UP045 (KFP reads this form alone)
    refined_student: Optional[Input[Artifact]] = None,  # noqa: UP045
) -> None:
    """Measure every model on the split that none has seen."""
    from sskd_core.stages.component import run_component

    inputs = present(
        data=data,
        adapted_teacher=adapted_teacher,
        supervised_student=supervised_student,
        distilled_student=distilled_student,
        refined_student=refined_student,
    )
    metrics.metadata.update(run_component("evaluate", experiment, inputs, manifest.path))
