"""Running an exported model with nothing but numpy, Pillow and onnxruntime.

No torch, no configuration library, no object store: what a service needs to install. Pre- and post-processing are the
very functions that training and evaluation use.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from sskd_core.data.preprocess import RawInstance, instances_from_logits
from sskd_core.data.semantic_map import SemanticMap, regions_of, semantic_map_from_logits
from sskd_core.export.contract import Task
from sskd_core.export.session import CPU, Image, OnnxModel, open_session, read_contract


class OnnxPredictor(OnnxModel):
    """Predicts instances.

    Args:
        path: of the ONNX file.
        score_threshold: instances with a lower score are dropped.
        max_instances: kept per image.
        threads: CPU threads of one run; None for all cores.
        provider: onnxruntime's execution provider; it must be available, there is no silent fallback.

    Raises:
        UserError: not an ONNX file, not one of ours, a semantic one, or the provider is not available.
    """

    task: ClassVar[Task] = "instance"

    def __init__(
        self,
        path: Path | str,
        score_threshold: float = 0.0,
        max_instances: int = 100,
        threads: int | None = None,
        provider: str = CPU,
    ) -> None:
        super().__init__(path, threads, provider)
        self.score_threshold, self.max_instances = score_threshold, max_instances

    def predict(
        self, images: list[Image], score_threshold: float | None = None, max_instances: int | None = None
    ) -> list[list[RawInstance]]:
        """Return the instances of each image, best score first, masks at the image's own size.

        Args:
            images: RGB, each [height, width, 3]; they run as one batch.
            score_threshold: for this call; default: the predictor's.
            max_instances: likewise.
        """
        if not images:
            return []
        pixels, sizes = self.prepare(images)
        classes, masks = self.logits(pixels)
        return [
            instances_from_logits(
                classes[index],
                masks[index],
                (self.contract.height, self.contract.width),
                sizes[index],
                (image.shape[0], image.shape[1]),
                self.max_instances if max_instances is None else max_instances,
                self.score_threshold if score_threshold is None else score_threshold,
                self.contract.mask_threshold,
            )
            for index, image in enumerate(images)
        ]


class OnnxSegmenter(OnnxModel):
    """Predicts the class of every pixel; arguments and errors are those of `OnnxModel`."""

    task: ClassVar[Task] = "semantic"

    def predict(self, images: list[Image]) -> list[SemanticMap]:
        """Return the map of each image at the image's own size.

        Args:
            images: RGB, each [height, width, 3]; they run as one batch.
        """
        if not images:
            return []
        pixels, sizes = self.prepare(images)
        (logits,) = self.logits(pixels)
        size = (self.contract.height, self.contract.width)
        return [
            semantic_map_from_logits(logits[index], size, sizes[index], (image.shape[0], image.shape[1]))
            for index, image in enumerate(images)
        ]


def open_predictor(path: Path | str, threads: int | None = None, provider: str = CPU) -> OnnxPredictor | OnnxSegmenter:
    """Open an exported model of either task.

    Args:
        path: of the ONNX file.
        threads: CPU threads of one run; None for all cores.
        provider: onnxruntime's execution provider.

    Raises:
        UserError: see `OnnxModel`.
    """
    task = read_contract(open_session(path, threads, provider), str(path)).task
    if task == OnnxSegmenter.task:
        return OnnxSegmenter(path, threads, provider)
    return OnnxPredictor(path, threads=threads, provider=provider)


def find_regions(
    predictor: OnnxPredictor | OnnxSegmenter, images: list[Image], score_threshold: float, max_instances: int
) -> list[list[RawInstance]]:
    """Return what is on each image, whatever the task: instances, or one region for each class.

    Args:
        predictor: of either task.
        images: RGB, each [height, width, 3]; they run as one batch.
        score_threshold: of instances.
        max_instances: kept per image.
    """
    if isinstance(predictor, OnnxSegmenter):
        return [regions_of(found) for found in predictor.predict(images)]
    return predictor.predict(images, score_threshold, max_instances)
