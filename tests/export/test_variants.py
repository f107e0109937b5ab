from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from engine_fixtures import Rectangles

from sskd_core.config.finish import CheapPrecision
from sskd_core.errors import UserError
from sskd_core.export.onnx import forbidden_operators
from sskd_core.export.predictor import OnnxPredictor
from sskd_core.export.variants import write_variant

DATA = Rectangles(8)
PRECISIONS: tuple[CheapPrecision, ...] = ("fp16", "int8_dynamic", "int8_static")


@pytest.fixture
def write(exported: Path, tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes a variant of the student."""

    def do(precision: CheapPrecision, images: int = len(DATA)) -> Path:
        predictor, target = OnnxPredictor(exported, threads=1), tmp_path / f"{precision}.onnx"
        calibration = (predictor.prepare([DATA[index].image])[0] for index in range(images))
        write_variant(exported, target, precision, predictor.contract, calibration)
        return target

    return do


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_variant_keeps_the_contract_and_comes_close(
    write: Callable[..., Path], exported: Path, precision: CheapPrecision
) -> None:
    path = write(precision)
    original, variant = OnnxPredictor(exported, threads=1), OnnxPredictor(path, threads=1)
    assert variant.contract.precision == precision
    assert variant.contract.classes == original.contract.classes
    pixels, _ = original.prepare([DATA[index].image for index in range(3)])
    for exact, cheap in zip(original.logits(pixels), variant.logits(pixels), strict=True):
        assert cheap.dtype == np.float32
        assert np.corrcoef(exact.ravel(), cheap.ravel())[0, 1] > 0.98
        assert not np.array_equal(exact, cheap)
    graph = onnx.load(path)
    onnx.checker.check_model(graph)
    assert forbidden_operators(graph) == []


def test_what_is_cheap_about_each(write: Callable[..., Path], exported: Path) -> None:
    def stored(path: Path) -> dict[int, int]:
        count: dict[int, int] = {}
        for item in onnx.load(path).graph.initializer:
            count[item.data_type] = count.get(item.data_type, 0) + int(np.prod(item.dims))
        return count

    total = stored(exported)[onnx.TensorProto.FLOAT]
    half = stored(write("fp16"))
    assert half[onnx.TensorProto.FLOAT16] > 0.95 * total
    assert stored(write("int8_dynamic"))[onnx.TensorProto.INT8] > 0.25 * total
    static = write("int8_static")
    assert stored(static)[onnx.TensorProto.INT8] > 0.5 * total
    quantised = {node.op_type for node in onnx.load(static).graph.node}
    assert {"QuantizeLinear", "DequantizeLinear"} <= quantised


def test_static_leaves_products_of_two_activations_alone(write: Callable[..., Path], tmp_path: Path) -> None:
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "fused.onnx")
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    onnxruntime.InferenceSession(write("int8_static"), options, providers=["CPUExecutionProvider"])
    graph = onnx.load(tmp_path / "fused.onnx").graph
    weights = {item.name for item in graph.initializer}
    second_factors = [node.input[3] for node in graph.node if node.op_type == "QLinearMatMul"]
    assert second_factors
    assert set(second_factors) <= weights


def test_static_ranges_are_those_of_the_calibration_images(write: Callable[..., Path], exported: Path) -> None:
    one, many = write("int8_static", images=1).read_bytes(), write("int8_static").read_bytes()
    assert one != many
    assert many == write("int8_static").read_bytes()


def test_static_without_images_is_refused_and_nothing_is_written(write: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="calibrated on unlabelled images and there are none"):
        write("int8_static", images=0)
    assert not (tmp_path / "int8_static.onnx").exists()


def test_a_graph_that_is_not_portable_is_refused(write_model: Callable[..., Path], tmp_path: Path) -> None:
    graph = """
    <ir_version: 10, opset_import: ["" : 18, "com.microsoft" : 1]>
    net (float[batch, 3, 32, 64] pixels) => (float[batch, 3, 32, 64] class_logits)
    { class_logits = com.microsoft.Gelu (pixels) }
    """
    path = write_model(graph=graph)
    with pytest.raises(UserError, match=r"fp16 variant is not portable: its graph holds com\.microsoft::Gelu"):
        write_variant(path, tmp_path / "a.onnx", "fp16", OnnxPredictor(write_model(name="b.onnx")).contract)
    assert not (tmp_path / "a.onnx").exists()


def test_the_quantiser_is_quiet(write: Callable[..., Path], capfd: pytest.CaptureFixture[str]) -> None:
    write("int8_dynamic")
    assert capfd.readouterr() == ("", "")
