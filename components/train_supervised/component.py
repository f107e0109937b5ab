"""The component `train_supervised`."""

from kfp.dsl import Artifact, Input, Metrics, Output

from components.base import stage_component


@stage_component
def train_supervised(
    experiment: str,
    data: Input[Artifact],
    manifest: Output[Artifact],
    metrics: Output[Metrics],
) -> None:
    """Train the student on the labelled images alone, as the figure to beat.

    Args:
        experiment: The experiment as JSON text, from `configure`.
        data: Manifest of `prepare`.
        manifest: The new manifest: a pointer to results in the object store.
        metrics: The figures of the manifest.
    """
    from sskd_core.stages.component import run_component

    inputs = {"data": data.path}
    metrics.metadata.update(run_component("train_supervised", experiment, inputs, manifest.path))
