"""The component `train_supervised`."""

from kfp.dsl import Artifact, Input, Metrics, Output

from components.base import stage_component


@stage_component
def train_supervised(
    experiment: str, data: Input[Artifact], manifest: Output[Artifact], metrics: Output[Metrics]
) -> None:
    """Train the student on the labelled images alone, as the figure to beat."""
    from sskd_core.stages.component import run_component

    inputs = {"data": data.path}
    metrics.metadata.update(run_component("train_supervised", experiment, inputs, manifest.path))
