"""The component `refine`."""

from kfp.dsl import Artifact, Input, Metrics, Output

from components.base import stage_component


@stage_component
def refine(
    experiment: str,
    data: Input[Artifact],
    student: Input[Artifact],
    manifest: Output[Artifact],
    metrics: Output[Metrics],
) -> None:
    """Refine the distilled student on the labelled images."""
    from sskd_core.stages.component import run_component

    inputs = {"data": data.path, "student": student.path}
    metrics.metadata.update(run_component("refine", experiment, inputs, manifest.path))
