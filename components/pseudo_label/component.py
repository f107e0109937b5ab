"""The component `pseudo_label`."""

from kfp.dsl import Artifact, Input, Metrics, Output

from components.base import stage_component


@stage_component
def pseudo_label(
    experiment: str,
    node: str,
    worker: int,
    data: Input[Artifact],
    teacher: Input[Artifact],
    manifest: Output[Artifact],
    metrics: Output[Metrics],
) -> None:
    """Label the unlabelled images that belong to one worker."""
    from sskd_core.stages.component import run_component

    inputs = {"data": data.path, "teacher": teacher.path}
    metrics.metadata.update(run_component(node, experiment, inputs, manifest.path, worker=worker))
