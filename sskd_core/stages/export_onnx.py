"""The `export_onnx` stage: the refined student as one ONNX file, proven equal to PyTorch on the test split."""

from __future__ import annotations

from collections.abc import Mapping

import onnxruntime

from sskd_core.config.finish import ExportConfig
from sskd_core.data.dataset import Dataset
from sskd_core.data.draw import class_color
from sskd_core.export.contract import Contract
from sskd_core.export.onnx import export_onnx
from sskd_core.export.parity import measure_parity
from sskd_core.export.predictor import OnnxPredictor
from sskd_core.models.protocol import SegmentationModel
from sskd_core.models.trained import load_trained
from sskd_core.stages.contract import StageContext, StageResult
from sskd_core.storage.manifest import Manifest

MEDIA_TYPE = "application/onnx"
_SPLIT = "test"


def run(config: ExportConfig, inputs: Mapping[str, Manifest], context: StageContext) -> StageResult:
    """Export and compare. Both sides run on the CPU in 32-bit floats.

    Args:
        config: operator set and limits.
        inputs: `data` (prepare) and `student` (a training stage).
        context: see `StageContext`.

    Raises:
        UserError: the network does not export portably, or the file disagrees with it beyond the limits; nothing is
            uploaded then.
    """
    model = load_trained(inputs["student"], context.store).cpu()
    path = context.workdir / "model.onnx"
    context.progress.note("tracing the network")
    export_onnx(model, path, config.opset, _contract(model, inputs["student"]))
    dataset = Dataset.load(inputs["data"], context.store)
    exported = OnnxPredictor(path)
    parity = measure_parity(
        model,
        exported,
        dataset.images(_SPLIT),
        dataset.ground_truth(_SPLIT),
        dataset.read_image,
        config.parity_images,
        lambda done, total: context.progress.update(done, total, "predictions"),
    )
    parity.require(config)
    return StageResult(
        outputs=[context.store.upload_output("onnx", f"{context.prefix}/model.onnx", path, MEDIA_TYPE)],
        metrics={
            "max_mask_logit_difference": parity.max_mask_logit_difference,
            "max_class_logit_difference": parity.max_class_logit_difference,
            "mask_ap_pytorch": parity.mask_ap_pytorch,
            "mask_ap_onnx": parity.mask_ap_onnx,
            "mask_ap_difference": parity.mask_ap_difference,
        },
        facts={
            "classes": model.classes,
            "family": model.config.family,
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
            "bytes": path.stat().st_size,
            "split": _SPLIT,
            "onnxruntime": onnxruntime.__version__,
            "provider": exported.provider,
        },
    )


def _contract(model: SegmentationModel, student: Manifest) -> Contract:
    size = model.input
    return Contract(
        classes=model.classes,
        colors=["#{:02x}{:02x}{:02x}".format(*class_color(index)) for index in range(len(model.classes))],
        height=size.height,
        width=size.width,
        mean=list(size.mean),
        std=list(size.std),
        family=model.config.family,
        manifest_uri=student.uri,
        manifest_digest=student.digest,
        licences=student.licences,
        figures=student.metrics,
    )
