"""From a trained student to a stored file that stands alone."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from engine_fixtures import CLASSES, tiny_model
from PIL import Image
from split_fixtures import context_of, prepared, trained

from sskd_core.config.finish import ExportConfig
from sskd_core.data.draw import class_color
from sskd_core.errors import UserError
from sskd_core.evaluation.instance_ap import evaluator_name
from sskd_core.export.onnx import export_onnx as write_onnx
from sskd_core.export.predictor import OnnxPredictor
from sskd_core.stages import export_onnx
from sskd_core.stages.contract import StageContext, execute
from sskd_core.storage.manifest import Manifest
from sskd_core.storage.store import ObjectStore

IMAGES = 5


@pytest.fixture
def job(store: ObjectStore, tmp_path: Path) -> tuple[ExportConfig, dict[str, Manifest], StageContext]:
    """A student in the store and what exports it."""
    student = trained(tiny_model(), store, "student", licences=["Apache-2.0", "CC-BY-4.0"])
    inputs = {"data": with_unlabeled(store), "student": student}
    config = ExportConfig(parity_images=2, variants=(), latency_runs=1)
    return config, inputs, context_of("export_onnx", config, inputs, store, tmp_path)


def with_unlabeled(store: ObjectStore) -> Manifest:
    """Prepare a test split, and the same images without labels."""
    test, unlabeled = prepared(store, IMAGES), prepared(store, IMAGES, "unlabeled")
    facts = {**test.facts, "counts": {**test.facts["counts"], "unlabeled": {"images": IMAGES}}}
    index = next(ref for ref in unlabeled.outputs if ref.name.startswith("images/"))
    return test.model_copy(update={"outputs": [*test.outputs, index], "facts": facts})


def test_the_student_is_exported_compared_and_stored(job, tmp_path: Path) -> None:
    config, inputs, context = job
    manifest = execute("export_onnx", export_onnx.run, config, inputs, context)
    (tmp_path / "model.onnx").write_bytes(context.store.read(manifest.output("onnx")))
    exported = OnnxPredictor(tmp_path / "model.onnx", threads=1)
    contract, student = exported.contract, inputs["student"]
    assert exported.classes == CLASSES
    assert (contract.height, contract.width) == (32, 64)
    assert contract.colors[1] == "#{:02x}{:02x}{:02x}".format(*class_color(1))
    assert (contract.manifest_uri, contract.manifest_digest) == (student.uri, student.digest)
    assert contract.licences == ["Apache-2.0", "CC-BY-4.0"]
    assert contract.figures == {"val_mask_ap": 12.5, "test_mask_ap": manifest.metrics["mask_ap_onnx"]}
    assert (contract.evaluator, contract.precision) == (evaluator_name(), "fp32")
    assert len(exported.predict([np.zeros((20, 30, 3), dtype=np.uint8)])) == 1
    assert 0.0 <= manifest.metrics["max_mask_logit_difference"] < 1e-3
    assert 0.0 <= manifest.metrics["max_class_logit_difference"] < 1e-3
    assert manifest.metrics["mask_ap_difference"] == pytest.approx(
        abs(manifest.metrics["mask_ap_pytorch"] - manifest.metrics["mask_ap_onnx"])
    )
    assert manifest.facts["parameters"] == sum(parameter.numel() for parameter in tiny_model().parameters())
    assert manifest.facts["bytes"] == manifest.output("onnx").bytes
    records = [json.loads(line) for line in (tmp_path / "export_onnx.jsonl").read_text().splitlines()]
    assert (records[-1]["done"], records[-1]["total"], records[-1]["unit"]) == (10, 10, "predictions")


def test_variants_are_measured_and_those_that_lose_little_are_delivered(
    job, store: ObjectStore, tmp_path: Path
) -> None:
    _, inputs, _ = job
    config = ExportConfig(parity_images=2, latency_runs=2, variants=("fp16", "int8_static"), max_variant_ap_loss=100)
    context = context_of("export_onnx", config, inputs, store, tmp_path)
    manifest = execute("export_onnx", export_onnx.run, config, inputs, context)
    rows = manifest.facts["variants"]
    assert [row["precision"] for row in rows] == ["fp32", "fp16", "int8_static"]
    for row in rows:
        output = manifest.output("onnx" if row["precision"] == "fp32" else f"onnx/{row['precision']}")
        (tmp_path / "copy.onnx").write_bytes(store.read(output))
        contract = OnnxPredictor(tmp_path / "copy.onnx", threads=1).contract
        assert (contract.precision, contract.figures["test_mask_ap"]) == (row["precision"], row["mask_ap"])
        assert row["bytes"] == output.bytes == manifest.metrics[f"{row['precision']}/bytes"]
        assert 0 < row["latency_ms_p50"] <= row["latency_ms_p95"]
        assert row["mask_ap_loss"] == pytest.approx(manifest.metrics["mask_ap_pytorch"] - row["mask_ap"])
    assert rows[0]["max_mask_logit_difference"] < rows[1]["max_mask_logit_difference"]
    assert rows[1]["bytes"] < 0.8 * rows[0]["bytes"]


def test_a_variant_that_loses_too_much_is_in_the_table_only(job, monkeypatch: pytest.MonkeyPatch) -> None:
    config, inputs, context = job
    monkeypatch.setattr(export_onnx, "network_ap", lambda *_: 0.05)  # as if each file lost 0.05 points
    lossy = config.model_copy(update={"variants": ("fp16",), "max_variant_ap_loss": 0.01})
    manifest = execute("export_onnx", export_onnx.run, lossy, inputs, context)
    row = manifest.facts["variants"][1]
    assert (row["delivered"], row["reason"]) == (False, "loses 0.05 AP, more than 0.01")
    assert [ref.name for ref in manifest.outputs_like("onnx")] == ["onnx"]


def test_the_worst_images_are_drawn(job) -> None:
    config, inputs, context = job
    few = config.model_copy(update={"failure_images": 2})
    manifest = execute("export_onnx", export_onnx.run, few, inputs, context)
    shown = manifest.facts["failures"]
    assert [item["output"] for item in shown] == ["failures/00", "failures/01"]
    # An untrained student finds nothing above the score that counts: most objects are missed on images 3 and 2.
    assert [(item["image_id"], item["f1"], item["missed"]) for item in shown] == [
        ("003.png", 0.0, 3),
        ("002.png", 0.0, 2),
    ]
    picture = Image.open(io.BytesIO(context.store.read(manifest.output("failures/00"))))
    assert picture.width > 2 * 400


def test_a_file_that_differs_is_refused_and_not_stored(job, monkeypatch: pytest.MonkeyPatch) -> None:
    config, inputs, context = job
    monkeypatch.setattr(export_onnx, "export_onnx", lambda model, *rest: write_onnx(tiny_model(seed=9).eval(), *rest))
    with pytest.raises(UserError, match="logits differ from PyTorch's"):
        execute("export_onnx", export_onnx.run, config, inputs, context)
    assert list(context.store.list(context.prefix)) == []
