"""The component `adapt_teacher`."""

from kfp.dsl import Artifact, Input, Metrics, Output

from components.base import stage_component


@stage_component
def adapt_teacher(experiment: str, data: Input[Artifact], manifest: Output[Artifact], metrics: Output[Metrics]) -> None:
    """Adapt the teacher to the domain on the labelled images."""
    from sskd_core.stages.component import run_component

    inputs = {"data": data.path}
    metrics.metadata.update(run_component("adapt_teacher", experiment, inputs, manifest.path))
