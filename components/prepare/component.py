"""The component `prepare`."""

from kfp.dsl import Artifact, Metrics, Output

from components.base import stage_component


@stage_component
def prepare(
    experiment: str,
    manifest: Output[Artifact],
    metrics: Output[Metrics],
) -> None:
    """Read every image and annotation once, check them, and write the index.

    Args:
        experiment: The experiment as JSON text, from `configure`.
        manifest: The new manifest: a pointer to results in the object store.
        metrics: The figures of the manifest.
    """
    from sskd_core.stages.component import run_component

    metrics.metadata.update(run_component("prepare", experiment, {}, manifest.path))
