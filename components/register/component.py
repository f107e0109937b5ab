"""The component `register`."""

from kfp.dsl import Artifact, Input, Metrics, Output

from components.base import stage_component


@stage_component
def register(
    experiment: str,
    data: Input[Artifact],
    student: Input[Artifact],
    evaluation: Input[Artifact],
    onnx: Input[Artifact],
    manifest: Output[Artifact],
    metrics: Output[Metrics],
) -> None:
    """Register the student, and promote it if the gate agrees."""
    from sskd_core.stages.component import run_component

    inputs = {"data": data.path, "student": student.path, "evaluation": evaluation.path, "onnx": onnx.path}
    metrics.metadata.update(run_component("register", experiment, inputs, manifest.path))
