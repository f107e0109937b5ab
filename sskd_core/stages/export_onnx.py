"""The `export_onnx` stage: the delivered student as one ONNX file, proven equal to PyTorch on the test split, and its
cheaper variants, each measured in the same way.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from sskd_core.config.finish import ExportConfig
from sskd_core.data.dataset import Dataset
from sskd_core.data.draw import class_color
from sskd_core.data.preprocess import letterbox, to_pixels
from sskd_core.evaluation.failures import ImageScore, worst_images
from sskd_core.evaluation.instance_ap import evaluator_name
from sskd_core.evaluation.overlay import draw_row
from sskd_core.export import table
from sskd_core.export.contract import Contract
from sskd_core.export.latency import measure_latency
from sskd_core.export.onnx import export_onnx, save
from sskd_core.export.parity import Compared, Split, compare, network_ap
from sskd_core.export.predictor import OnnxPredictor
from sskd_core.export.table import BASE, Variant
from sskd_core.export.variants import write_variant
from sskd_core.labels.sheet import spread_indices
from sskd_core.models.protocol import SegmentationModel
from sskd_core.models.trained import load_trained
from sskd_core.stages.contract import StageContext, StageResult
from sskd_core.storage.manifest import Manifest, ObjectRef

MEDIA_TYPE = "application/onnx"
SHOWN_SCORE = 0.35
"""Instances below are neither drawn nor counted in the choice of the failures; AP counts them all."""
_SPLIT = "test"


@dataclass(frozen=True)
class _Job:
    """What every step of the stage needs.

    Attributes:
        config: of the stage.
        context: likewise.
        model: the student, on the CPU.
        dataset: the data.
        split: the part of it that everything is measured on.
    """

    config: ExportConfig
    context: StageContext
    model: SegmentationModel
    dataset: Dataset
    split: Split

    def path(self, precision: str) -> Path:
        """Return where the file of a precision is written."""
        return self.context.workdir / ("model.onnx" if precision == BASE else f"model.{precision}.onnx")

    def progress(self, number: int) -> Callable[[int], None]:
        """Return the progress of one pass over the split; there is one for PyTorch and one for each file."""
        images = len(self.split.records)
        total = (2 + len(self.config.variants)) * images
        return lambda done: self.context.progress.update(number * images + done, total, "predictions")


def run(config: ExportConfig, inputs: Mapping[str, Manifest], context: StageContext) -> StageResult:
    """Export and compare. Everything runs on the CPU.

    Args:
        config: operator set, limits, variants.
        inputs: `data` (prepare) and `student` (a training stage).
        context: see `StageContext`.

    Returns:
        Outputs `onnx` (32-bit), `onnx/<precision>` of each variant that loses little enough, `failures/NN` (pictures).
        The fact `variants` is the table of all files, `failures` says what the pictures show.

    Raises:
        UserError: the network does not export portably, or the 32-bit file disagrees with it beyond the limits; nothing
            is uploaded then.
    """
    model = load_trained(inputs["student"], context.store).cpu()
    dataset = Dataset.load(inputs["data"], context.store)
    split = Split(dataset.images(_SPLIT), dataset.ground_truth(_SPLIT), dataset.read_image)
    job = _Job(config, context, model, dataset, split)
    contract = _contract(model, inputs["student"])

    context.progress.note("tracing the network")
    export_onnx(model, job.path(BASE), config.opset, contract, config.allow_grid_sample)
    mask_ap = network_ap(model, split, job.progress(0))
    base, compared = _measure(job, BASE, mask_ap, job.progress(1))
    compared.parity.require(config)
    variants = [base]
    for number, precision in enumerate(config.variants, 2):
        context.progress.note(f"writing the {precision} variant")
        write_variant(job.path(BASE), job.path(precision), precision, contract, _calibration(job))
        variants.append(_measure(job, precision, mask_ap, job.progress(number))[0])

    worst = worst_images(compared.matches, SHOWN_SCORE, config.failure_images)
    pictures = _draw_failures(job, compared, worst)
    return StageResult(
        outputs=[*(_upload(job, item) for item in variants if item.delivered), *pictures],
        metrics={
            "max_mask_logit_difference": compared.parity.max_mask_logit_difference,
            "max_class_logit_difference": compared.parity.max_class_logit_difference,
            "mask_ap_pytorch": compared.parity.mask_ap_pytorch,
            "mask_ap_onnx": compared.parity.mask_ap_onnx,
            "mask_ap_difference": compared.parity.mask_ap_difference,
            **table.metrics(variants),
        },
        facts={
            "classes": model.classes,
            "family": model.config.family,
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
            "bytes": base.bytes,
            "split": _SPLIT,
            "evaluator": evaluator_name(),
            "variants": table.rows(variants),
            "failures": [{"output": ref.name, **asdict(item)} for ref, item in zip(pictures, worst, strict=True)],
            "onnxruntime": onnxruntime.__version__,
            "provider": "CPUExecutionProvider",
            "processor": platform.processor() or platform.machine(),
        },
    )


def _measure(job: _Job, precision: str, mask_ap: float, progress: Callable[[int], None]) -> tuple[Variant, Compared]:
    """Compare a file with the network, time it, and write its AP into its metadata."""
    path = job.path(precision)
    exported = OnnxPredictor(path)
    compared = compare(job.model, mask_ap, exported, job.split, job.config.parity_images, progress)
    image = np.zeros((1, 3, job.model.input.height, job.model.input.width), dtype=np.float32)
    latency = measure_latency(partial(exported.logits, image), job.config.latency_runs)
    figures = {**exported.contract.figures, f"{_SPLIT}_mask_ap": compared.parity.mask_ap_onnx}
    save(onnx.load_model(path), path, replace(exported.contract, figures=figures, evaluator=evaluator_name()))
    size = path.stat().st_size
    return table.describe(precision, size, compared.parity, latency, job.config.max_variant_ap_loss), compared


def _calibration(job: _Job) -> Iterator[NDArray[np.float32]]:
    """Yield unlabelled images as network inputs, evenly over the split."""
    records, size = job.dataset.images("unlabeled"), job.model.input
    for index in spread_indices(len(records), job.config.calibration_images):
        image, _ = letterbox(job.dataset.read_image(records[index]), size.height, size.width)
        yield to_pixels(image, size.mean, size.std)[None]


def _draw_failures(job: _Job, compared: Compared, worst: Sequence[ImageScore]) -> list[ObjectRef]:
    """Draw images: the truth beside what the 32-bit file finds."""
    records = {record.image_id: record for record in job.split.records}
    written = []
    for number, item in enumerate(worst):
        shown = [instance for instance in compared.found[item.image_id] if instance.score >= SHOWN_SCORE]
        truth = job.split.truth[item.image_id].instances
        panels = [("ground truth", truth), (f"student, F1 {item.f1:.2f}", shown)]
        picture = draw_row(job.split.read(records[item.image_id]), panels, job.model.classes)
        name = f"failures/{number:02d}"
        written.append(job.context.store.put_output(name, f"{job.context.prefix}/{name}.png", picture, "image/png"))
    return written


def _upload(job: _Job, variant: Variant) -> ObjectRef:
    path = job.path(variant.precision)
    name = "onnx" if variant.precision == BASE else f"onnx/{variant.precision}"
    return job.context.store.upload_output(name, f"{job.context.prefix}/{path.name}", path, MEDIA_TYPE)


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
