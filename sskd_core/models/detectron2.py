"""Models of detectron2 as teacher or student: our batches in its dictionaries, its answers in our records.

Any model works whose training forward returns a dictionary of losses and whose evaluation gives `instances` with masks:
its Mask R-CNNs and their cascades, and what projects build on its registries. It computes its own losses; see
`models/region.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from sskd_core.config.base import validate
from sskd_core.config.model import ModelConfig
from sskd_core.errors import ConfigError, UserError
from sskd_core.losses.boxes import boxes_of_masks, without_empty
from sskd_core.losses.set_criterion import Target
from sskd_core.models.detectron2_config import FAMILY, Detectron2Arch, build_network
from sskd_core.models.region import RegionModel, Regions


class Detectron2(RegionModel):
    """A detectron2 model.

    Args:
        config: `arch` holds the fields of `Detectron2Arch`.
        classes: class names.

    Raises:
        ConfigError: detectron2 is not installed, or the configuration is not one of its.
    """

    training_keys = ("run_config_code",)

    @classmethod
    def check_arch(cls, arch: Mapping[str, Any]) -> None:
        """Refuse unknown keys; an `arch` that names no configuration has that of the weights."""
        named = {key: value for key, value in arch.items() if key not in cls.training_keys}
        if named:
            validate(Detectron2Arch, named, FAMILY)

    def __init__(self, config: ModelConfig, classes: list[str]) -> None:
        super().__init__()
        arch = validate(Detectron2Arch, config.arch, FAMILY)
        self.network, described, order = build_network(arch, len(classes))
        self.config = config.model_copy(update={"arch": described.model_dump(exclude_defaults=True)})
        self.classes = classes
        self._reversed = order == "BGR"

    def encoder_module(self) -> nn.Module:
        """Return what detectron2 calls the backbone, without its pyramid where that is a part of its own."""
        backbone = getattr(self.network, "backbone", None)
        if not isinstance(backbone, nn.Module):
            raise ConfigError(f"{FAMILY}: {type(self.network).__name__} has no backbone")
        bottom = getattr(backbone, "bottom_up", None)
        return bottom if isinstance(bottom, nn.Module) else backbone

    def losses(self, pixels: Tensor, targets: list[Target]) -> dict[str, Tensor]:
        """Return the network's own terms, weighted as its configuration says."""
        from detectron2.utils.events import EventStorage

        inputs = [
            {
                "image": image,
                "height": image.shape[1],
                "width": image.shape[2],
                "instances": _annotations(target, image),
            }
            for image, target in zip(self._images(pixels), targets, strict=True)
        ]
        with EventStorage():  # where its modules note figures as they go
            terms = self.network(inputs)
        if not isinstance(terms, dict) or not all(isinstance(value, Tensor) for value in terms.values()):
            raise UserError(f"{FAMILY}: {type(self.network).__name__} returns no dictionary of losses in training")
        return {name.removeprefix("loss_"): value for name, value in terms.items()}

    @torch.no_grad()
    def detect(self, pixels: Tensor, sizes: list[tuple[int, int]]) -> list[Regions]:
        """Find the instances of each image; its masks are cut at its own threshold of 0.5."""
        inputs = [
            {"image": image, "height": height, "width": width}
            for image, (height, width) in zip(self._images(pixels), sizes, strict=True)
        ]
        return [_regions(item, type(self.network).__name__) for item in self.network(inputs)]

    def _images(self, pixels: Tensor) -> Tensor:
        """Return the batch as detectron2 wants it: 0 to 255, in the network's order of channels."""
        mean, std = (pixels.new_tensor(part)[:, None, None] for part in (self.input.mean, self.input.std))
        images = (pixels * std + mean) * 255.0
        return images.flip(1) if self._reversed else images


def _annotations(target: Target, image: Tensor) -> Any:
    """Return the `Instances` of an image [3, H, W]."""
    from detectron2.structures import BitMasks, Boxes, Instances

    height, width = image.shape[1:]
    target = without_empty(target)
    masks = target.masks
    if masks.shape[1:] != (height, width):
        masks = nn.functional.interpolate(masks[:, None], (height, width), mode="bilinear")[:, 0]
    side = image.new_tensor([width, height, width, height])
    found = Instances((height, width))
    found.gt_boxes = Boxes(boxes_of_masks(target.masks).to(image) * side)
    found.gt_classes = target.labels.to(image.device)
    found.gt_masks = BitMasks(masks.to(image.device) > 0.5)
    return found


def _regions(answer: Mapping[str, Any], name: str) -> Regions:
    """Read one image's answer."""
    instances = answer.get("instances")
    if instances is None or not instances.has("pred_masks"):
        raise UserError(f"{FAMILY}: {name} gives no instances with masks; use an instance segmentation model")
    order = instances.scores.argsort(descending=True)
    masks = instances.pred_masks[order]
    return Regions(instances.pred_classes[order], instances.scores[order], partial(_mask, masks))


def _mask(masks: Tensor, index: int) -> Tensor:
    return masks[index].float()
