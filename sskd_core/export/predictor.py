"""Running an exported model with nothing but numpy, Pillow and onnxruntime.

No torch, no configuration library, no object store: what a service needs to install. Pre- and post-processing are the
very functions that training and evaluation use.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from sskd_core.data.preprocess import RawInstance, instances_from_logits, letterbox, to_pixels
from sskd_core.errors import UserError
from sskd_core.export.contract import FORMAT, INPUT, OUTPUTS, parse_metadata

Image = NDArray[np.uint8]


class OnnxPredictor:
    """Predicts instances.

    Args:
        path: of the ONNX file.
        score_threshold: instances with a lower score are dropped.
        max_instances: kept per image.
        threads: CPU threads of one run; None for all cores.
        provider: onnxruntime's execution provider; it must be available, there is no silent fallback.

    Attributes:
        classes: class names in index order.
        metadata: what the exporter recorded.

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
        if provider not in onnxruntime.get_available_providers():
            raise UserError(f"onnxruntime has no {provider}; it has {', '.join(onnxruntime.get_available_providers())}")
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        if threads is not None:
            options.intra_op_num_threads = threads
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=[provider])
        except Exception as error:
            raise UserError(f"{path}: onnxruntime cannot load it: {str(error).splitlines()[0]}") from None
        self.metadata: dict[str, Any] = parse_metadata(self._session.get_modelmeta().custom_metadata_map)
        if self.metadata.get("format") != FORMAT:
            raise UserError(f"{path}: not a model exported by sskd ({FORMAT}); its metadata lacks the format")
        self.classes: list[str] = self.metadata["classes"]
        self.score_threshold, self.max_instances = score_threshold, max_instances

    def predict(self, images: list[Image]) -> list[list[RawInstance]]:
        """Return the instances of each image, best score first, masks at the image's own size.

        Args:
            images: RGB, each [height, width, 3]; they run as one batch.
        """
        height, width = self.metadata["height"], self.metadata["width"]
        boxed = [letterbox(image, height, width) for image in images]
        pixels = np.stack([to_pixels(canvas, self.metadata["mean"], self.metadata["std"]) for canvas, _ in boxed])
        classes, masks = self.logits(pixels)
        return [
            instances_from_logits(
                classes[index],
                masks[index],
                (height, width),
                resized,
                (images[index].shape[0], images[index].shape[1]),
                self.max_instances,
                self.score_threshold,
                self.metadata["mask_threshold"],
            )
            for index, (_, resized) in enumerate(boxed)
        ]

    def logits(self, pixels: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Run the graph on normalised pixels [B, 3, H, W]; return class and mask logits."""
        classes, masks = self._session.run(list(OUTPUTS), {INPUT: pixels})
        return classes, masks
