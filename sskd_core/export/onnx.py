"""Writing a network as ONNX: one self-contained file with dynamic batch and our metadata."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn

from sskd_core.errors import UserError
from sskd_core.export.contract import INPUT, OUTPUTS, Contract, Task
from sskd_core.models.protocol import SegmentationModel

log = logging.getLogger(__name__)
# TensorRT silently mis-compiles GridSample in deformable attention, so a graph that holds one is not portable.
_GRID_SAMPLE = "GridSample"
_STANDARD_DOMAINS = frozenset({"", "ai.onnx"})
_MAX_WEIGHT_BYTES = 2_000_000_000
"""A protobuf ends at 2 GiB; what is larger needs a second file, which gets lost."""
_SMALLEST_SHARE = 1e-12
_CHATTY = ("torch.onnx", "torch.export", "onnxscript", "onnx_ir", "transformers")


class _InstanceHead(nn.Module):
    """The network with the last depth's logits as its only outputs."""

    def __init__(self, model: SegmentationModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        output = self.model(pixels)
        return output.class_logits[-1], output.mask_logits[-1]


class _SemanticHead(nn.Module):
    """The network with one logit a class and pixel as its only output.

    MaskFormer's semantic inference (Cheng et al. 2021, section 3.4): a pixel's share of a class is the sum over the
    queries of class probability times mask probability. The logarithm makes logits of the shares: their softmax is the
    share of the class among all classes.
    """

    def __init__(self, model: SegmentationModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels: Tensor) -> tuple[Tensor]:
        output = self.model(pixels)
        classes = output.class_logits[-1].softmax(-1)[..., :-1]
        shares = torch.einsum("bqc,bqhw->bchw", classes, output.mask_logits[-1].sigmoid())
        return (shares.clamp(min=_SMALLEST_SHARE).log(),)


_HEADS: dict[Task, type[_InstanceHead] | type[_SemanticHead]] = {"instance": _InstanceHead, "semantic": _SemanticHead}


def export_onnx(
    model: SegmentationModel, path: Path, opset: int, contract: Contract, allow_grid_sample: bool = False
) -> None:
    """Export a network.

    Args:
        model: in eval mode, on the CPU.
        path: of the file.
        opset: ONNX operator set.
        contract: becomes the file's metadata; its task decides which outputs the graph has.
        allow_grid_sample: take a graph that onnxruntime runs and TensorRT mis-compiles.

    Raises:
        UserError: the network is too large for one file, or its graph cannot be written in this operator set, or holds
            an operator that not every runtime runs; nothing is written then.
    """
    size = sum(tensor.numel() * tensor.element_size() for tensor in model.state_dict().values())
    if size > _MAX_WEIGHT_BYTES:
        raise UserError(
            f"the network's weights take {size / 1e9:.1f} GB, one ONNX file holds 2; choose a smaller student"
        )
    graph = _trace(model, opset, contract.task)
    refused = [name for name in forbidden_operators(graph) if name != _GRID_SAMPLE or not allow_grid_sample]
    if refused:
        raise UserError(
            f"the {model.config.family} network cannot be exported portably: its graph holds {', '.join(refused)}; "
            "choose a student of family dinov2_dpt"
            + (", or set stages.export_onnx.allow_grid_sample" if refused == [_GRID_SAMPLE] else "")
        )
    written = next(item.version for item in graph.opset_import if item.domain in _STANDARD_DOMAINS)
    if written != opset:
        raise UserError(
            f"the graph needs operator set {written}, not {opset}; set stages.export_onnx.opset to {written}"
        )
    _strip(graph)
    onnx.checker.check_model(graph, full_check=True)
    save(graph, path, contract)


def save(graph: onnx.ModelProto, path: Path, contract: Contract) -> None:
    """Write a graph with its metadata, in place of what it had before."""
    onnx.helper.set_model_props(graph, contract.to_metadata())
    onnx.save_model(graph, path)


def forbidden_operators(model: onnx.ModelProto) -> list[str]:
    """Return the operators in a graph that are not portable: GridSample, and whatever is not standard ONNX."""
    local = {(function.domain, function.name) for function in model.functions}
    found = {
        f"{node.domain}::{node.op_type}" if node.domain else node.op_type
        for node in _nodes(model)
        if node.op_type == _GRID_SAMPLE
        or (node.domain not in _STANDARD_DOMAINS and (node.domain, node.op_type) not in local)
    }
    return sorted(found)


def _trace(model: SegmentationModel, opset: int, task: Task) -> onnx.ModelProto:
    size = model.input
    # Two images: a batch of one would be traced as a constant.
    example = torch.zeros(2, 3, size.height, size.width)
    try:
        with _quiet():
            program = torch.onnx.export(
                _HEADS[task](model).eval(),
                (example,),
                dynamo=True,
                verbose=False,
                opset_version=opset,
                input_names=[INPUT],
                output_names=list(OUTPUTS[task]),
                dynamic_shapes={INPUT: {0: torch.export.Dim("batch", min=1)}},
            )
    except torch.onnx.OnnxExporterError as error:
        log.debug("torch.onnx.export failed", exc_info=error)
        raise UserError(
            f"the {model.config.family} network cannot be exported to ONNX: PyTorch's exporter does not support an "
            "operation in it; choose a student of family dinov2_dpt"
        ) from error
    assert program is not None
    return program.model_proto


def _nodes(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    """Yield all nodes, those of functions and of the branches of control flow included."""
    waiting = [*model.graph.node, *(node for function in model.functions for node in function.node)]
    while waiting:
        node = waiting.pop()
        yield node
        for attribute in node.attribute:
            for graph in (attribute.g, *attribute.graphs):
                waiting += graph.node


def _strip(model: onnx.ModelProto) -> None:
    """Drop what the exporter notes for its own debugging: stack traces with paths of this machine, among others."""
    graph = model.graph
    values = [*graph.input, *graph.output, *graph.value_info, *graph.initializer]
    for item in (graph, *values, *model.functions, *_nodes(model)):
        item.ClearField("doc_string")
        item.ClearField("metadata_props")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Send the exporter's chatter to our log; it speaks of its own internals, to standard output and as warnings."""
    chatter = io.StringIO()
    loggers = [logging.getLogger(name) for name in _CHATTY]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(chatter), warnings.catch_warnings(record=True) as caught:
            yield
        for line in [*chatter.getvalue().splitlines(), *(str(item.message) for item in caught)]:
            log.debug("exporter: %s", line)
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
