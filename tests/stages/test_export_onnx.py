"""From a trained student to a stored file that stands alone."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from engine_fixtures import CLASSES, tiny_model
from split_fixtures import context_of, prepared, trained

from sskd_core.config.finish import ExportConfig
from sskd_core.data.draw import class_color
from sskd_core.errors import UserError
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
    inputs = {"data": prepared(store, IMAGES), "student": student}
    config = ExportConfig(parity_images=2)
    return config, inputs, context_of("export_onnx", config, inputs, store, tmp_path)


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
    assert contract.figures == {"val_mask_ap": 12.5}
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


def test_a_file_that_differs_is_refused_and_not_stored(job, monkeypatch: pytest.MonkeyPatch) -> None:
    config, inputs, context = job
    monkeypatch.setattr(export_onnx, "export_onnx", lambda model, *rest: write_onnx(tiny_model(seed=9).eval(), *rest))
    with pytest.raises(UserError, match="logits differ from PyTorch's"):
        execute("export_onnx", export_onnx.run, config, inputs, context)
    assert list(context.store.list(context.prefix)) == []
