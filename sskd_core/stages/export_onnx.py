"""The `export_onnx` stage: the refined student as one ONNX file, proven equal to PyTorch on the test split."""

from __future__ import annotations

from collections.abc import Mapping

import onnxruntime

from sskd_core.config.finish import ExportConfig
from sskd_core.data.dataset import Dataset
from sskd_core.export.contract import metadata
from sskd_core.export.onnx import export_onnx
from sskd_core.export.parity import measure_parity
from sskd_core.export.predictor import OnnxPredictor
from sskd_core.models.trained import load_trained
from sskd_core.stages.contract import StageContext, StageResult
from sskd_core.storage.manifest import Manifest

MEDIA_TYPE = "application/onnx"


def run(config: ExportConfig, inputs: Mapping[str, Manifest], context: StageContext) -> StageResult:
    """Export and compare.

    Args:
        config: operator set and limits.
        inputs: `data` (prepare) and `student` (a training stage).
        context: see `StageContext`.

    Raises:
        UserError: the network does not export portably, or the file disagrees with it beyond the limits.
    """
    student = inputs["student"]
    model = load_trained(student, context.store).cpu()
    size = model.input
    stored = metadata(
        model.classes,
        size.height,
        size.width,
        size.mean,
        size.std,
        {
            "manifest_uri": student.uri,
            "manifest_digest": student.digest,
            "licences": student.licences,
            "val_mask_ap": student.metrics["val_mask_ap"],
            "family": model.config.family,
        },
    )
    path = context.workdir / "model.onnx"
    context.progress.note("tracing the network")
    export_onnx(model, path, config.opset, stored)
    dataset = Dataset.load(inputs["data"], context.store)
    parity = measure_parity(
        model,
        OnnxPredictor(path),
        dataset.images("test"),
        dataset.ground_truth("test"),
        dataset.read_image,
        config.parity_images,
        lambda done, total: context.progress.update(done, total, "images"),
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
            "onnxruntime": onnxruntime.__version__,
        },
    )
