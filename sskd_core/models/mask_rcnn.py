"""The Mask R-CNN family: torchvision's parts, with the mask head and the mask loss of Noisy Boundaries by switch.

He et al. 2017 (arXiv 1703.06870) with a feature pyramid. It computes its own losses; see `models/region.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torchvision.models import resnet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.roi_heads import RoIHeads, fastrcnn_loss, paste_masks_in_image
from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead
from torchvision.ops import FrozenBatchNorm2d, MultiScaleRoIAlign, roi_align

from sskd_core.config.base import StrictModel, validate
from sskd_core.config.model import ModelConfig
from sskd_core.losses.boxes import boxes_of_masks, without_empty
from sskd_core.losses.noisy_boundaries import BoundaryForm, boundary_mask_loss
from sskd_core.losses.set_criterion import Target
from sskd_core.models.mask_head import ROI, NoiseTolerantMaskHead, StandardMaskHead
from sskd_core.models.region import RegionModel, Regions

FAMILY = "family mask_rcnn"
_LEVELS = ("0", "1", "2", "3")
_BLOCKS = {"r18": (2, 2, 2, 2), "r50": (3, 4, 6, 3), "r101": (3, 4, 23, 3)}


class MaskRcnnArch(StrictModel):
    """Architecture and loss; the defaults are torchvision's Mask R-CNN with ResNet-50 and a feature pyramid."""

    backbone: Literal["r18", "r50", "r101"] = "r50"
    batch_norm: Literal["frozen", "batch"] = Field(
        "frozen", description="frozen keeps the statistics of the encoder weights; batch learns them"
    )
    width: int = Field(256, ge=1, description="of the feature pyramid and the mask head")
    box_head_width: int = Field(1024, ge=1)
    anchor_sizes: tuple[int, int, int, int, int] = Field(
        (32, 64, 128, 256, 512), description="sides of the anchors of each level, pixels"
    )
    train_proposals: int = Field(2000, ge=1, description="of each level before, and in all after suppression")
    test_proposals: int = Field(1000, ge=1)
    regions_per_image: int = Field(512, ge=1, description="that the box head learns from")
    score_threshold: float = Field(0.05, ge=0, le=1)
    nms_iou: float = Field(0.5, gt=0, le=1)
    max_detections: int = Field(100, ge=1)
    mask_head: Literal["standard", "noise_tolerant"] = "standard"
    boundary_map: BoundaryForm = Field(
        "none", description="boundary-preserving map: per_pixel as in the paper, scalar as in the released code"
    )
    mask_loss_weight: float = Field(1.0, ge=0, description="Noisy Boundaries has 3 on Cityscapes and 1 on COCO")


class MaskRcnn(RegionModel):
    """Mask R-CNN.

    Args:
        config: `arch` holds the fields of `MaskRcnnArch`.
        classes: class names.

    Raises:
        ConfigError: unknown architecture key or impossible value.
    """

    training_keys = ("boundary_map", "mask_loss_weight")

    @classmethod
    def check_arch(cls, arch: Mapping[str, Any]) -> None:
        """Refuse unknown keys; see `SegmentationModel.check_arch`."""
        validate(MaskRcnnArch, arch, FAMILY)

    def __init__(self, config: ModelConfig, classes: list[str]) -> None:
        super().__init__()
        self.config, self.classes = config, classes
        self.arch = arch = validate(MaskRcnnArch, config.arch, FAMILY)
        self.backbone = _backbone(arch)
        anchors = AnchorGenerator(tuple((side,) for side in arch.anchor_sizes), ((0.5, 1.0, 2.0),) * 5)
        counts = {"training": arch.train_proposals, "testing": arch.test_proposals}
        head = RPNHead(arch.width, anchors.num_anchors_per_location()[0])
        self.rpn = RegionProposalNetwork(anchors, head, 0.7, 0.3, 256, 0.5, counts, counts, 0.7)
        box_pool = MultiScaleRoIAlign(list(_LEVELS), 7, 2)
        box_head = TwoMLPHead(arch.width * 7 * 7, arch.box_head_width)
        predictor = FastRCNNPredictor(arch.box_head_width, len(classes) + 1)
        limits = (arch.score_threshold, arch.nms_iou, arch.max_detections)
        self.roi_heads = RoIHeads(box_pool, box_head, predictor, 0.5, 0.5, arch.regions_per_image, 0.25, None, *limits)
        self.mask_pool = MultiScaleRoIAlign(list(_LEVELS), ROI, 2)
        mask_head = NoiseTolerantMaskHead if arch.mask_head == "noise_tolerant" else StandardMaskHead
        self.mask_head: NoiseTolerantMaskHead | StandardMaskHead = mask_head(arch.width, arch.width, len(classes))

    def encoder_module(self) -> nn.Module:
        """Return the ResNet, for weights that hold an encoder alone."""
        encoder: nn.Module = self.backbone.body
        return encoder

    def losses(self, pixels: Tensor, targets: list[Target]) -> dict[str, Tensor]:
        """Return `objectness`, `rpn_box`, `class`, `box`, `mask`, and `coarse_mask` of the noise-tolerant head."""
        targets = [without_empty(target) for target in targets]
        side = pixels.new_tensor([pixels.shape[3], pixels.shape[2]] * 2)
        truth = [
            {"boxes": boxes_of_masks(target.masks).to(side) * side, "labels": target.labels + 1} for target in targets
        ]
        features, shapes = self._features(pixels)
        with torch.autocast(pixels.device.type, enabled=False):  # too coarse for positions of boxes
            proposals, rpn = self.rpn(ImageList(pixels, shapes), features, truth)
            heads = self.roi_heads
            proposals, matched, labels, offsets = heads.select_training_samples(proposals, truth)
            pooled = heads.box_head(heads.box_roi_pool(features, proposals, shapes))
            category, box = fastrcnn_loss(*heads.box_predictor(pooled), labels, offsets)
            terms = {
                "objectness": rpn["loss_objectness"],
                "rpn_box": rpn["loss_rpn_box_reg"],
                "class": category,
                "box": box,
            }
            found = [label > 0 for label in labels]
            boxes = [item[chosen] for item, chosen in zip(proposals, found, strict=True)]
            instances = [item[chosen] for item, chosen in zip(matched, found, strict=True)]
            return terms | self._mask_terms(features, shapes, boxes, instances, targets)

    def _mask_terms(
        self,
        features: dict[str, Tensor],
        shapes: list[tuple[int, int]],
        boxes: list[Tensor],
        instances: list[Tensor],
        targets: list[Target],
    ) -> dict[str, Tensor]:
        """Compare the masks of the regions that show an instance, with the logits of that instance's class."""
        logits = self.mask_head(self.mask_pool(features, boxes, shapes))
        labels = torch.cat([target.labels[chosen] for target, chosen in zip(targets, instances, strict=True)])
        terms = {}
        for name, part in (("mask", logits.fine), ("coarse_mask", logits.coarse)):
            if part is not None:
                cells = part.shape[-1]
                parts = zip(targets, boxes, instances, shapes, strict=True)
                wanted = torch.cat(
                    [_crop(target.masks, own, chosen, shape, cells) for target, own, chosen, shape in parts]
                )
                predicted = part[torch.arange(len(labels), device=part.device), labels]
                loss = boundary_mask_loss(predicted, wanted, self.arch.boundary_map)
                terms[name] = self.arch.mask_loss_weight * loss
        return terms

    @torch.no_grad()
    def detect(self, pixels: Tensor, sizes: list[tuple[int, int]]) -> list[Regions]:
        """Find the instances of each image; see `RegionModel.detect`."""
        features, shapes = self._features(pixels)
        with torch.autocast(pixels.device.type, enabled=False):
            proposals, _ = self.rpn(ImageList(pixels, shapes), features)
            found, _ = self.roi_heads(features, proposals, shapes)
            boxes = [item["boxes"] for item in found]
            labels = [item["labels"] - 1 for item in found]
            logits = self.mask_head(self.mask_pool(features, boxes, shapes)).fine
        chosen = logits[torch.arange(len(logits), device=logits.device), torch.cat(labels)]
        masks = chosen.sigmoid().split([len(item) for item in labels])
        height, width = pixels.shape[2:]
        regions = []
        for place, size in enumerate(sizes):
            scale = pixels.new_tensor([size[1] / width, size[0] / height] * 2)
            regions.append(
                Regions(labels[place], found[place]["scores"], _Paste(masks[place], boxes[place] * scale, size))
            )
        return regions

    def _features(self, pixels: Tensor) -> tuple[dict[str, Tensor], list[tuple[int, int]]]:
        """Return the pyramid, and the size of the input once an image."""
        features = {name: level.float() for name, level in self.backbone(pixels).items()}
        return features, [(pixels.shape[2], pixels.shape[3])] * len(pixels)


class _Paste:
    """Puts masks [n, m, m] into their boxes [n, 4] on a canvas."""

    def __init__(self, masks: Tensor, boxes: Tensor, size: tuple[int, int]) -> None:
        self._masks, self._boxes, self._size = masks, boxes, size

    def __call__(self, index: int) -> Tensor:
        part = slice(index, index + 1)
        canvas: Tensor = paste_masks_in_image(self._masks[part, None], self._boxes[part], self._size)[0, 0]
        return canvas


def _crop(masks: Tensor, boxes: Tensor, instances: Tensor, shape: tuple[int, int], cells: int) -> Tensor:
    """Return the part of each instance's mask that its box shows, [r, cells, cells].

    Args:
        masks: [n, H, W] over the whole input, at any resolution.
        boxes: [r, 4] pixels of the input.
        instances: [r] whose mask.
        shape: (height, width) of the input.
        cells: of the result.
    """
    scale = boxes.new_tensor([masks.shape[2] / shape[1], masks.shape[1] / shape[0]] * 2)
    regions = torch.cat([instances[:, None].to(boxes), boxes * scale], 1)
    cropped: Tensor = roi_align(masks[:, None].to(boxes), regions, (cells, cells))[:, 0]
    return cropped


def _backbone(arch: MaskRcnnArch) -> BackboneWithFPN:
    block = resnet.BasicBlock if arch.backbone == "r18" else resnet.Bottleneck
    norm = FrozenBatchNorm2d if arch.batch_norm == "frozen" else nn.BatchNorm2d
    body = resnet.ResNet(block, list(_BLOCKS[arch.backbone]), norm_layer=norm)
    layers = {f"layer{number}": name for number, name in enumerate(_LEVELS, 1)}
    channels = [64 * 2**level * block.expansion for level in range(4)]
    return BackboneWithFPN(body, layers, channels, arch.width)
