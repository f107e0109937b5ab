"""A real student as an exported file, and a graph of a few nodes that finds bright pixels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import onnx
import onnx.parser
import pytest
import torch
from engine_fixtures import batch_loader, tiny_model, train_config

from sskd_core.config.train import AugmentConfig
from sskd_core.export.contract import Contract
from sskd_core.export.onnx import export_onnx
from sskd_core.losses.set_criterion import SetCriterion
from sskd_core.models.protocol import SegmentationModel
from sskd_core.strategies.supervised import Supervised

STEPS = 120

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
SEMANTIC = """
<ir_version: 10, opset_import: ["" : 18]>
bright (float[batch, 3, 32, 64] pixels) => (float[batch, 2, 32, 64] semantic_logits)
<float half = {0.5}, float steep = {20.0}, float none = {0.0}>
{
    channel = Constant <value_ints = [1]> ()
    grey = ReduceMean <keepdims = 1> (pixels, channel)
    shifted = Sub (grey, half)
    light = Mul (shifted, steep)
    zeros = Mul (grey, none)
    semantic_logits = Concat <axis = 1> (light, zeros)
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

    def write(stored: dict[str, str] | None = None, graph: str = BRIGHT, name: str = "bright.onnx") -> Path:
        model = onnx.parser.parse_model(graph)
        onnx.helper.set_model_props(model, CONTRACT.to_metadata() if stored is None else stored)
        onnx.save_model(model, tmp_path / name)
        return tmp_path / name

    return write


@pytest.fixture
def write_semantic(write_model: Callable[..., Path]) -> Callable[[], Path]:
    """Return a function that writes a graph of task `semantic`: bright pixels are of class 0."""
    return lambda: write_model(replace(CONTRACT, task="semantic").to_metadata(), SEMANTIC, "semantic.onnx")


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


@pytest.fixture(scope="session")
def trained_student() -> SegmentationModel:
    """The student after some steps on rectangles, so that it finds them; in eval mode."""
    model, config = tiny_model(), train_config(labeled_batch=4, augment=AugmentConfig(scale=(1.0, 1.0)))
    strategy = Supervised(batch_loader(config), SetCriterion(config.criterion))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for step in range(STEPS):
        optimizer.zero_grad()
        torch.stack(list(strategy.step(model, step).losses.values())).sum().backward()
        optimizer.step()
    strategy.close()
    return model.eval()
