"""The component `export_onnx`."""

from kfp.dsl import Artifact, Input, Metrics, Output

from components.base import stage_component


@stage_component
def export_onnx(
    experiment: str,
    data: Input[Artifact],
    student: Input[Artifact],
    manifest: Output[Artifact],
    metrics: Output[Metrics],
) -> None:
    """Export the student to ONNX and compare it with PyTorch.

    Args:
        experiment: The experiment as JSON text, from `configure`.
        data: Manifest of `prepare`.
        student: Manifest of the student.
        manifest: The new manifest: a pointer to results in the object store.
        metrics: The figures of the manifest.
    """
    from sskd_core.stages.component import run_component

    inputs = {"data": data.path, "student": student.path}
    metrics.metadata.update(run_component("export_onnx", experiment, inputs, manifest.path))
