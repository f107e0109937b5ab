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
    """Check that every shard of a labelling round is there and healthy, and commit them.

    Args:
        experiment: The experiment as JSON text, from `configure`.
        node: Place in the pipeline: `pseudo_label` or `relabel`.
        data: Manifest of `prepare`.
        teacher: Manifest of the teacher that labels.
        workers: Manifests of the workers, which it waits for.
        manifest: The new manifest: a pointer to results in the object store.
        metrics: The figures of the manifest.
    """
    from sskd_core.stages.component import run_component

    inputs = {"data": data.path, "teacher": teacher.path}
    metrics.metadata.update(run_component(node, experiment, inputs, manifest.path))
