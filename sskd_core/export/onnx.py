"""Writing a network as ONNX: one self-contained file with dynamic batch and our metadata."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn

from sskd_core.errors import UserError
from sskd_core.export.contract import INPUT, OUTPUTS
from sskd_core.models.protocol import SegmentationModel

# TensorRT silently mis-compiles GridSample in deformable attention, so a graph that holds one is not portable.
_FORBIDDEN = frozenset({"GridSample"})
_STANDARD_DOMAINS = frozenset({"", "ai.onnx"})


class _FinalPrediction(nn.Module):
    """The network with the last depth's logits as its only outputs."""

    def __init__(self, model: SegmentationModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        output = self.model(pixels)
        return output.class_logits[-1], output.mask_logits[-1]


def export_onnx(model: SegmentationModel, path: Path, opset: int, stored: Mapping[str, str]) -> None:
    """Export a network.

    Args:
        model: in eval mode, on the CPU.
        path: of the file.
        opset: ONNX operator set.
        stored: the file's metadata.

    Raises:
        UserError: the graph holds an operator that not every runtime runs; the file is then not written.
    """
    size = model.input
    example = torch.zeros(2, 3, size.height, size.width)
    with _quiet():
        program = torch.onnx.export(
            _FinalPrediction(model).eval(),
            (example,),
            dynamo=True,
            opset_version=opset,
            input_names=[INPUT],
            output_names=list(OUTPUTS),
            dynamic_shapes={"pixels": {0: torch.export.Dim("batch", min=1)}},
        )
    assert program is not None
    graph = program.model_proto
    refused = forbidden_operators(graph)
    if refused:
        raise UserError(
            f"the {model.config.family} network cannot be exported portably: its graph holds {', '.join(refused)}; "
            "choose a student of family dinov2_dpt"
        )
    onnx.helper.set_model_props(graph, dict(stored))
    onnx.checker.check_model(graph, full_check=True)
    onnx.save_model(graph, path)


def forbidden_operators(graph: onnx.ModelProto) -> list[str]:
    """Return the operators in a graph that are not portable: GridSample, and whatever is not standard ONNX."""
    nodes = [*graph.graph.node, *(node for function in graph.functions for node in function.node)]
    local = {(function.domain, function.name) for function in graph.functions}
    found = {
        f"{node.domain}::{node.op_type}" if node.domain else node.op_type
        for node in nodes
        if node.op_type in _FORBIDDEN
        or (node.domain not in _STANDARD_DOMAINS and (node.domain, node.op_type) not in local)
    }
    return sorted(found)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's chatter from standard output; it speaks of its own internals."""
    chatter = io.StringIO()
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(chatter), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
