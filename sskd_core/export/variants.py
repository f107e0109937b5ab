"""The same network with cheaper arithmetic: half precision, and 8-bit integers in two ways.

- `fp16`: weights and arithmetic in 16-bit floats. Half the size; faster on a GPU, not on a CPU.
- `int8_dynamic`: 8-bit weights of matrix products; the range of the activations is measured in every run.
- `int8_static`: 8-bit weights and activations of convolutions and of products with weights, whose ranges were measured
  on images of the domain; in standard ONNX (QuantizeLinear, DequantizeLinear) that every runtime fuses.

The inputs and outputs of all of them are 32-bit floats, so that the contract stays the same.
"""

from __future__ import annotations

import contextlib
import logging
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_dynamic, quantize_static
from onnxruntime.quantization.onnx_model import ONNXModel
from onnxruntime.quantization.shape_inference import quant_pre_process
from onnxruntime.transformers.float16 import convert_float_to_float16

from sskd_core.config.finish import CheapPrecision
from sskd_core.errors import UserError
from sskd_core.export.contract import INPUT, Contract
from sskd_core.export.onnx import forbidden_operators, save

_PRODUCTS = ["MatMul", "Gemm"]
_PRODUCTS_AND_CONVOLUTIONS = [*_PRODUCTS, "Conv"]


class _Batches(CalibrationDataReader):  # type: ignore[misc]
    """Network inputs as onnxruntime's calibration asks for them."""

    def __init__(self, batches: Iterable[NDArray[np.float32]]) -> None:
        self._batches = iter(batches)

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        return next(({INPUT: batch} for batch in self._batches), None)


def write_variant(
    source: Path,
    target: Path,
    precision: CheapPrecision,
    contract: Contract,
    calibration: Iterable[NDArray[np.float32]] = (),
) -> None:
    """Write a variant of an exported file.

    Args:
        source: 32-bit file of `export_onnx`.
        target: the file to write.
        precision: which variant.
        contract: of the source; its `precision` is replaced.
        calibration: network inputs [B, 3, H, W] for `int8_static`, read one by one.

    Raises:
        UserError: no calibration images, or the result holds an operator that not every runtime runs; nothing is
            written then.
    """
    with tempfile.TemporaryDirectory() as scratch, _quiet():
        written = Path(scratch) / "variant.onnx"
        _WRITERS[precision](source, written, calibration)
        graph = onnx.load_model(written)
    refused = forbidden_operators(graph)
    if refused:
        raise UserError(f"the {precision} variant is not portable: its graph holds {', '.join(refused)}; leave it out")
    graph.ClearField("doc_string")
    onnx.checker.check_model(graph)
    save(graph, target, replace(contract, precision=precision))


def _float16(source: Path, target: Path, calibration: Iterable[NDArray[np.float32]]) -> None:
    graph = convert_float_to_float16(onnx.load_model(source), keep_io_types=True)
    # The converter casts a value back to 32 bits once for each operator that wants it so, under one and the same name.
    nodes = {tuple(node.output): node for node in graph.graph.node}
    del graph.graph.node[:]
    graph.graph.node.extend(nodes.values())
    ordered = ONNXModel(graph)
    ordered.topological_sort()
    onnx.save_model(ordered.model, target)


def _int8_dynamic(source: Path, target: Path, calibration: Iterable[NDArray[np.float32]]) -> None:
    quantize_dynamic(
        _prepared(source, target), target, op_types_to_quantize=_PRODUCTS, per_channel=True, reduce_range=True
    )


def _int8_static(source: Path, target: Path, calibration: Iterable[NDArray[np.float32]]) -> None:
    batches = iter(calibration)
    first = next(batches, None)
    if first is None:
        raise UserError("int8_static is calibrated on unlabelled images and there are none; leave it out")

    def every() -> Iterator[NDArray[np.float32]]:
        yield first
        yield from batches

    prepared = _prepared(source, target)
    quantize_static(
        prepared,
        target,
        _Batches(every()),
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=_PRODUCTS_AND_CONVOLUTIONS,
        nodes_to_quantize=_with_weights(onnx.load_model(prepared)),
        per_channel=True,
        # Weights of 7 bits: on CPUs without VNNI, sums of 8-bit products overflow without a word.
        reduce_range=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )


def _with_weights(graph: onnx.ModelProto) -> list[str]:
    """Return the products and convolutions with weights.

    A product of two activations, as attention has them, would convert both in every run: slower than 32 bits.
    """
    weights = {item.name for item in graph.graph.initializer}
    kinds = _PRODUCTS_AND_CONVOLUTIONS
    return [node.name for node in graph.graph.node if node.op_type in kinds and node.input[1] in weights]


_WRITERS: dict[CheapPrecision, Callable[[Path, Path, Iterable[NDArray[np.float32]]], None]] = {
    "fp16": _float16,
    "int8_dynamic": _int8_dynamic,
    "int8_static": _int8_static,
}


def _prepared(source: Path, target: Path) -> Path:
    """Infer shapes and fold what can be folded, beside the target; quantisation asks for it."""
    prepared = target.with_name("prepared.onnx")
    quant_pre_process(source, prepared, skip_symbolic_shape=True)
    return prepared


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence the quantiser, which logs through the root logger."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
