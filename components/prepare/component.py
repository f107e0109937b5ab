"""The component `prepare`."""

from kfp.dsl import Artifact, Metrics, Output

from components.base import stage_component


@stage_component
def prepare(experiment: str, manifest: Output[Artifact], metrics: Output[Metrics]) -> None:
    """Read every image and annotation once, check them, and write the index."""
    from sskd_core.stages.component import run_component

    metrics.metadata.update(run_component("prepare", experiment, {}, manifest.path))
