"""The component `distill`."""

from kfp.dsl import Artifact, Input, Metrics, Output

from components.base import stage_component


@stage_component
def distill(
    experiment: str,
    data: Input[Artifact],
    labels: Input[Artifact],
    manifest: Output[Artifact],
    metrics: Output[Metrics],
) -> None:
    """Train the student on the labelled and the pseudo-labelled images."""
    from sskd_core.stages.component import run_component

    inputs = {"data": data.path, "labels": labels.path}
    metrics.metadata.update(run_component("distill", experiment, inputs, manifest.path))
