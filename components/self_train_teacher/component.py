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
    """Adapt the teacher again, from its initial weights, on labels and its own pseudo-labels."""
    from sskd_core.stages.component import run_component

    inputs = {"data": data.path, "labels": labels.path}
    metrics.metadata.update(run_component("self_train_teacher", experiment, inputs, manifest.path))
