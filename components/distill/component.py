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
    """Train the student on the labelled and the pseudo-labelled images.

    Args:
        experiment: The experiment as JSON text, from `configure`.
        data: Manifest of `prepare`.
        labels: Manifest of the collected pseudo-labels.
        manifest: The new manifest: a pointer to results in the object store.
        metrics: The figures of the manifest.
    """
    from sskd_core.stages.component import run_component

    inputs = {"data": data.path, "labels": labels.path}
    metrics.metadata.update(run_component("distill", experiment, inputs, manifest.path))
