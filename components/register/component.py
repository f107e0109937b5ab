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
    """Register the student, and promote it if the gate agrees.

    Args:
        experiment: The experiment as JSON text, from `configure`.
        data: Manifest of `prepare`.
        student: Manifest of the student.
        evaluation: Manifest of `evaluate`.
        onnx: Manifest of `export_onnx`.
        manifest: The new manifest: a pointer to results in the object store.
        metrics: The figures of the manifest.
    """
    from sskd_core.stages.component import run_component

    inputs = {
        "data": data.path,
        "student": student.path,
        "evaluation": evaluation.path,
        "onnx": onnx.path,
    }
    metrics.metadata.update(run_component("register", experiment, inputs, manifest.path))
