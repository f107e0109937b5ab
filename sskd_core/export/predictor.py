"""Running an exported model with nothing but numpy, Pillow and onnxruntime.

No torch, no configuration library, no object store: what a service needs to install. Pre- and post-processing are the
very functions that training and evaluation use.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from sskd_core.data.preprocess import RawInstance, instances_from_logits, letterbox, to_pixels
from sskd_core.errors import UserError
from sskd_core.export.contract import INPUT, OUTPUTS, Contract

Image = NDArray[np.uint8]
_ONLY_FATAL = 4


class OnnxPredictor:
    """Predicts instances.

    Args:
        path: of the ONNX file.
        score_threshold: instances with a lower score are dropped.
        max_instances: kept per image.
        threads: CPU threads of one run; None for all cores.
        provider: onnxruntime's execution provider; it must be available, there is no silent fallback.

    Attributes:
        contract: what the exporter recorded.
        classes: class names in index order.
        provider: the execution provider.

    Raises:
        UserError: not an ONNX file, not one of ours, or the provider is not available.
    """

    def __init__(
        self,
        path: Path | str,
        score_threshold: float = 0.0,
        max_instances: int = 100,
        threads: int | None = None,
        provider: str = "CPUExecutionProvider",
    ) -> None:
        self._session = _open(str(path), threads, provider)
        self.contract = Contract.from_metadata(self._session.get_modelmeta().custom_metadata_map, str(path))
        _check_shapes(self._session, self.contract, str(path))
        self.classes, self.provider = self.contract.classes, provider
        self.score_threshold, self.max_instances = score_threshold, max_instances

    def predict(self, images: list[Image]) -> list[list[RawInstance]]:
        """Return the instances of each image, best score first, masks at the image's own size.

        Args:
            images: RGB, each [height, width, 3]; they run as one batch.
        """
        if not images:
            return []
        contract = self.contract
        boxed = [letterbox(image, contract.height, contract.width) for image in images]
        classes, masks = self.logits(np.stack([to_pixels(box, contract.mean, contract.std) for box, _ in boxed]))
        return [
            instances_from_logits(
                classes[index],
                masks[index],
                (contract.height, contract.width),
                resized,
                (images[index].shape[0], images[index].shape[1]),
                self.max_instances,
                self.score_threshold,
                contract.mask_threshold,
            )
            for index, (_, resized) in enumerate(boxed)
        ]

    def logits(self, pixels: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Run the graph on normalised pixels [B, 3, H, W]; return class and mask logits."""
        classes, masks = self._session.run(list(OUTPUTS), {INPUT: pixels})
        return classes, masks


def _open(path: str, threads: int | None, provider: str) -> onnxruntime.InferenceSession:
    available = onnxruntime.get_available_providers()
    if provider not in available:
        raise UserError(f"onnxruntime has no {provider}; it has {', '.join(available)}")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _ONLY_FATAL
    if threads is not None:
        options.intra_op_num_threads = threads
    try:
        session = onnxruntime.InferenceSession(path, options, providers=[provider])
    except Exception as error:  # onnxruntime's errors share no base class
        raise UserError(f"{path}: onnxruntime cannot load it: {str(error).splitlines()[0]}") from None
    # A provider that is there but cannot start is replaced by the CPU with no more than a warning.
    if session.get_providers()[0] != provider:
        raise UserError(f"onnxruntime has {provider} but it cannot start; it would run on {session.get_providers()[0]}")
    return session


def _check_shapes(session: onnxruntime.InferenceSession, contract: Contract, where: str) -> None:
    """Check that metadata and graph speak of the same tensors.

    Raises:
        UserError: somebody changed one without the other.
    """
    shapes = {item.name: item.shape for item in [*session.get_inputs(), *session.get_outputs()]}
    if set(shapes) != {INPUT, *OUTPUTS}:
        raise UserError(f"{where}: its tensors are {', '.join(shapes)}, not {', '.join((INPUT, *OUTPUTS))}")
    told = ([3, contract.height, contract.width], len(contract.classes) + 1)
    found = (shapes[INPUT][1:], shapes[OUTPUTS[0]][-1])
    if told != found:
        raise UserError(f"{where}: its metadata tells of input and class columns {told}, its graph of {found}")
