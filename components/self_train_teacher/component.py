"""The component `self_train_teacher`."""

from kfp.dsl import Artifact, Input, Metrics, Output

from components.base import stage_component


@stage_component
def self_train_teacher(
    experiment: str,
    data: Input[Artifact],
    labels: Input[Artifact],
    manifest: Output[Artifact],
    metrics: Output[Metrics],
) -> None:
    """Adapt the teacher again, from its initial weights, on labels and its own pseudo-labels.

    Args:
        experiment: The experiment as JSON text, from `configure`.
        data: Manifest of `prepare`.
        labels: Manifest of the collected pseudo-labels.
        manifest: The new manifest: a pointer to results in the object store.
        metrics: The figures of the manifest.
    """
    from sskd_core.stages.component import run_component

    inputs = {"data": data.path, "labels": labels.path}
    metrics.metadata.update(run_component("self_train_teacher", experiment, inputs, manifest.path))
