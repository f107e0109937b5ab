"""An exported file opened in onnxruntime, checked against its own metadata. numpy, Pillow and onnxruntime only."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from sskd_core.data.preprocess import letterbox, to_pixels
from sskd_core.errors import UserError
from sskd_core.export.contract import INPUT, OUTPUTS, Contract, Task

Image = NDArray[np.uint8]
CPU = "CPUExecutionProvider"
_ONLY_FATAL = 4


class OnnxModel:
    """A model of one task.

    Args:
        path: of the ONNX file.
        threads: CPU threads of one run; None for all cores.
        provider: onnxruntime's execution provider; it must be available, there is no silent fallback.

    Attributes:
        contract: what the exporter recorded.
        classes: class names in index order.
        provider: the execution provider.

    Raises:
        UserError: not an ONNX file, not one of ours, of another task, or the provider is not available.
    """

    task: ClassVar[Task]

    def __init__(self, path: Path | str, threads: int | None = None, provider: str = CPU) -> None:
        self._session = open_session(path, threads, provider)
        self.contract = read_contract(self._session, str(path))
        if self.contract.task != self.task:
            raise UserError(f"{path}: a model for {self.contract.task} segmentation, not for {self.task} segmentation")
        _check_shapes(self._session, self.contract, str(path))
        self.classes, self.provider = self.contract.classes, provider

    def logits(self, pixels: NDArray[np.float32]) -> tuple[NDArray[np.float32], ...]:
        """Run the graph on normalised pixels [B, 3, H, W]; return its outputs in the order of the contract."""
        return tuple(self._session.run(list(OUTPUTS[self.task]), {INPUT: pixels}))

    def prepare(self, images: list[Image]) -> tuple[NDArray[np.float32], list[tuple[int, int]]]:
        """Return the network input of RGB images [h, w, 3], and the (height, width) that each takes up inside it."""
        contract = self.contract
        boxed = [letterbox(image, contract.height, contract.width) for image in images]
        return np.stack([to_pixels(box, contract.mean, contract.std) for box, _ in boxed]), [size for _, size in boxed]


def open_session(path: Path | str, threads: int | None = None, provider: str = CPU) -> onnxruntime.InferenceSession:
    """Open any ONNX file.

    Args:
        path: of the file.
        threads: CPU threads of one run; None for all cores.
        provider: execution provider.

    Raises:
        UserError: it cannot be loaded, or the provider is not available.
    """
    available = onnxruntime.get_available_providers()
    if provider not in available:
        raise UserError(f"onnxruntime has no {provider}; it has {', '.join(available)}")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _ONLY_FATAL
    if threads is not None:
        options.intra_op_num_threads = threads
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=[provider])
    except Exception as error:  # onnxruntime's errors share no base class
        raise UserError(f"{path}: onnxruntime cannot load it: {str(error).splitlines()[0]}") from None
    # A provider that is there but cannot start is replaced by the CPU with no more than a warning.
    if session.get_providers()[0] != provider:
        raise UserError(f"onnxruntime has {provider} but it cannot start; it would run on {session.get_providers()[0]}")
    return session


def read_contract(session: onnxruntime.InferenceSession, where: str) -> Contract:
    """Return what the exporter recorded in an open file.

    Raises:
        UserError: it is not one of ours; the message names what is missing.
    """
    return Contract.from_metadata(session.get_modelmeta().custom_metadata_map, where)


def _check_shapes(session: onnxruntime.InferenceSession, contract: Contract, where: str) -> None:
    """Check that metadata and graph speak of the same tensors.

    Raises:
        UserError: somebody changed one without the other.
    """
    shapes = {item.name: item.shape for item in [*session.get_inputs(), *session.get_outputs()]}
    outputs = OUTPUTS[contract.task]
    if set(shapes) != {INPUT, *outputs}:
        raise UserError(f"{where}: its tensors are {', '.join(shapes)}, not {', '.join((INPUT, *outputs))}")
    classes = shapes[outputs[0]][-1] - 1 if contract.task == "instance" else shapes[outputs[0]][1]
    told = ([3, contract.height, contract.width], len(contract.classes))
    found = (shapes[INPUT][1:], classes)
    if told != found:
        raise UserError(f"{where}: its metadata tells of input and number of classes {told}, its graph of {found}")
