"""Tiny networks that compute their own losses, and targets for them."""

from __future__ import annotations

from typing import Any

import torch
from engine_fixtures import CLASSES
from torch import Tensor

from sskd_core.config.model import InputConfig, ModelConfig
from sskd_core.losses.set_criterion import Target
from sskd_core.models.build import construct
from sskd_core.models.mask_rcnn import MaskRcnn
from sskd_core.models.region import RegionModel

SIZE = InputConfig(height=64, width=96)
MASK_RCNN: dict[str, Any] = {
    "backbone": "r18",
    "batch_norm": "batch",
    "width": 32,
    "box_head_width": 32,
    "anchor_sizes": [8, 16, 32, 64, 128],
    "train_proposals": 40,
    "test_proposals": 20,
    "regions_per_image": 16,
    "score_threshold": 0.0,
    "max_detections": 8,
}


def mask_rcnn_config(**arch: Any) -> ModelConfig:
    """Return the configuration of a tiny Mask R-CNN."""
    return ModelConfig(family="mask_rcnn", arch=MASK_RCNN | arch, input=SIZE)


def mask_rcnn(classes: list[str] | None = None, seed: int = 0, **arch: Any) -> MaskRcnn:
    """Build a tiny Mask R-CNN with random values."""
    model = construct(mask_rcnn_config(**arch), CLASSES if classes is None else classes, seed)
    assert isinstance(model, MaskRcnn)
    return model


def pixels(batch: int = 2) -> Tensor:
    """Return random network input."""
    return torch.randn(batch, 3, SIZE.height, SIZE.width, generator=torch.Generator().manual_seed(0))


def rectangles(*corners: tuple[int, int, int, int, int]) -> Target:
    """Return instances: class, y0, y1, x0, x1 in pixels."""
    masks = torch.zeros(len(corners), SIZE.height, SIZE.width)
    for mask, (_, y0, y1, x0, x1) in zip(masks, corners, strict=True):
        mask[y0:y1, x0:x1] = 1.0
    return Target(torch.tensor([item[0] for item in corners], dtype=torch.int64), masks)


TARGETS = [rectangles((0, 4, 30, 8, 40), (2, 20, 60, 50, 90)), rectangles((1, 10, 40, 30, 70))]


def assert_learns(model: RegionModel, share: float) -> None:
    """Train thirty steps on one batch; the total of the last five must be below `share` of that of the first five."""
    optimizer = torch.optim.AdamW([value for value in model.train().parameters() if value.requires_grad], lr=2e-3)
    totals = []
    for step in range(30):
        torch.manual_seed(step)
        total = torch.stack(list(model.losses(pixels(), TARGETS).values())).sum()
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        totals.append(total.item())
    assert sum(totals[-5:]) < share * sum(totals[:5])
