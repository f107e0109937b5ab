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
    """Label the unlabelled images that belong to one worker.

    Args:
        experiment: The experiment as JSON text, from `configure`.
        node: Place in the pipeline: `pseudo_label` or `relabel`.
        worker: Number of this worker, from 0.
        data: Manifest of `prepare`.
        teacher: Manifest of the teacher that labels.
        manifest: The new manifest: a pointer to results in the object store.
        metrics: The figures of the manifest.
    """
    from sskd_core.stages.component import run_component

    inputs = {"data": data.path, "teacher": teacher.path}
    metrics.metadata.update(run_component(node, experiment, inputs, manifest.path, worker=worker))
