"""The component `collect_labels`."""

from kfp.dsl import Artifact, Input, Metrics, Output

from components.base import stage_component


@stage_component
def collect_labels(
    experiment: str,
    node: str,
    data: Input[Artifact],
    teacher: Input[Artifact],
    workers: Input[list[Artifact]],
    manifest: Output[Artifact],
    metrics: Output[Metrics],
) -> None:
    """Check that every shard of a labelling round is there and healthy, and commit them."""
    from sskd_core.stages.component import run_component

    inputs = {"data": data.path, "teacher": teacher.path}
    metrics.metadata.update(run_component(node, experiment, inputs, manifest.path))
