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
    """Export the student to ONNX and compare it with PyTorch."""
    from sskd_core.stages.component import run_component

    inputs = {"data": data.path, "student": student.path}
    metrics.metadata.update(run_component("export_onnx", experiment, inputs, manifest.path))
