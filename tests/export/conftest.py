"""A real student as an exported file, and a graph of a few nodes that finds bright pixels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import onnx
import onnx.parser
import pytest
from engine_fixtures import tiny_model

from sskd_core.export.contract import Contract
from sskd_core.export.onnx import export_onnx
from sskd_core.models.protocol import SegmentationModel

BRIGHT = """
<ir_version: 10, opset_import: ["" : 18]>
bright (float[batch, 3, 32, 64] pixels) => (float[batch, 1, 3] class_logits, float[batch, 1, 32, 64] mask_logits)
<float[1, 1, 3] scores = {5.0, 0.0, 0.0}, float half = {0.5}, float steep = {20.0}, float none = {0.0}>
{
    channel = Constant <value_ints = [1]> ()
    area = Constant <value_ints = [2, 3]> ()
    grey = ReduceMean <keepdims = 1> (pixels, channel)
    shifted = Sub (grey, half)
    mask_logits = Mul (shifted, steep)
    means = ReduceMean <keepdims = 0> (pixels, area)
    zeros = Mul (means, none)
    rows = Unsqueeze (zeros, channel)
    class_logits = Add (rows, scores)
}
"""
CONTRACT = Contract(
    classes=["bright", "other"],
    colors=["#ff0000", "#00ff00"],
    height=32,
    width=64,
    mean=[0.0, 0.0, 0.0],
    std=[1.0, 1.0, 1.0],
)


@pytest.fixture
def contract() -> Contract:
    """The metadata of the graph that finds bright pixels."""
    return CONTRACT


@pytest.fixture
def write_model(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes the graph with other text or other metadata."""

    def write(stored: dict[str, str] | None = None, graph: str = BRIGHT) -> Path:
        model = onnx.parser.parse_model(graph)
        onnx.helper.set_model_props(model, CONTRACT.to_metadata() if stored is None else stored)
        onnx.save_model(model, tmp_path / "bright.onnx")
        return tmp_path / "bright.onnx"

    return write


@pytest.fixture(scope="session")
def student() -> SegmentationModel:
    """A tiny network of the student's family with random values, in eval mode."""
    return tiny_model().eval()


@pytest.fixture(scope="session")
def exported(student: SegmentationModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The student as an ONNX file."""
    path = tmp_path_factory.mktemp("onnx") / "student.onnx"
    size = student.input
    contract = replace(CONTRACT, classes=student.classes, mean=list(size.mean), std=list(size.std))
    export_onnx(student, path, 18, contract)
    return path
