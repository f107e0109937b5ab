"""Component of the `report` stage, which reads the manifests of all nodes."""

from kfp.dsl import HTML, Artifact, Input, Output

from components.base import stage_component


@stage_component
def report(
    experiment: str,
    prepare: Input[Artifact],
    adapt_teacher: Input[Artifact],
    pseudo_label: Input[Artifact],
    self_train_teacher: Input[Artifact],
    relabel: Input[Artifact],
    train_supervised: Input[Artifact],
    distill: Input[Artifact],
    refine: Input[Artifact],
    evaluate: Input[Artifact],
    export_onnx: Input[Artifact],
    register: Input[Artifact],
    manifest: Output[Artifact],
    page: Output[HTML],
) -> None:
    """Draw the report; the orchestrator's UI shows the same page."""
    from sskd_core.stages.component import run_component, write_output

    inputs = {
        "prepare": prepare.path,
        "adapt_teacher": adapt_teacher.path,
        "pseudo_label": pseudo_label.path,
        "self_train_teacher": self_train_teacher.path,
        "relabel": relabel.path,
        "train_supervised": train_supervised.path,
        "distill": distill.path,
        "refine": refine.path,
        "evaluate": evaluate.path,
        "export_onnx": export_onnx.path,
        "register": register.path,
    }
    run_component("report", experiment, inputs, manifest.path)
    write_output(experiment, manifest.path, "report", page.path)
