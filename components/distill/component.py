"""The component `distill`."""

from typing import Optional

from kfp.dsl import Artifact, Input, Metrics, Output

from components.base import present, stage_component


@stage_component
def distill(
    experiment: str,
    data: Input[Artifact],
    manifest: Output[Artifact],
    metrics: Output[Metrics],
    labels: Optional[Input[Artifact]] = None,  # noqa: UP045 (KFP reads this form alone)
    teacher: Optional[Input[Artifact]] = None,  # noqa: UP045
) -> None:
    """Train the student on the labelled images, and on the others by stored pseudo-labels or beside a teacher."""
    from sskd_core.stages.component import run_component

    inputs = present(data=data, labels=labels, teacher=teacher)
    metrics.metadata.update(run_component("distill", experiment, inputs, manifest.path))
