from __future__ import annotations

import copy
import math
from pathlib import Path

import pytest
import torch
from engine_fixtures import Rectangles

from sskd_core.config.finish import ExportConfig
from sskd_core.errors import UserError
from sskd_core.export.parity import Parity, measure_parity
from sskd_core.export.predictor import OnnxPredictor
from sskd_core.models.protocol import SegmentationModel

IMAGES = 20
PARITY = Parity(1e-4, 1e-5, 40.0, 40.05)
LIMITS = ExportConfig(max_logit_difference=1e-2, max_ap_difference=0.1)


def measure(model: SegmentationModel, exported: Path, images: int = 3) -> tuple[Parity, list[tuple[int, int]]]:
    told: list[tuple[int, int]] = []
    data, predictor = Rectangles(IMAGES), OnnxPredictor(exported, threads=1)

    def tell(done: int, total: int) -> None:
        told.append((done, total))

    return measure_parity(model, predictor, data.records(), data.truth(), data.read, images, tell), told


def test_an_exported_student_agrees_with_its_network(student: SegmentationModel, exported: Path) -> None:
    found, told = measure(student, exported)
    assert found.max_mask_logit_difference < 1e-4
    assert found.max_class_logit_difference < 1e-4
    assert found.mask_ap_difference < 0.1
    found.require(LIMITS)
    assert told == [(16, 40), (20, 40), (36, 40), (40, 40)]


def test_a_file_of_other_weights_is_found_out(student: SegmentationModel, exported: Path) -> None:
    other = copy.deepcopy(student)
    with torch.no_grad():
        other.class_head.bias += 0.5
    found, _ = measure(other, exported, images=17)
    assert found.max_class_logit_difference == pytest.approx(0.5, abs=1e-3)
    with pytest.raises(UserError, match=r"class logits differ from PyTorch's by 5.00e-01"):
        found.require(LIMITS)


def test_nan_logits_are_found_out(student: SegmentationModel, exported: Path) -> None:
    broken = copy.deepcopy(student)
    with torch.no_grad():
        broken.class_head.bias[0] = math.nan
    found, _ = measure(broken, exported)
    assert math.isnan(found.max_class_logit_difference)
    with pytest.raises(UserError, match="class logits differ from PyTorch's by nan"):
        found.require(LIMITS)


@pytest.mark.parametrize(
    ("measured", "message"),
    [
        (Parity(0.02, 1e-5, 40.0, 40.0), "mask logits differ from PyTorch's by 2.00e-02, more than"),
        (Parity(1e-4, 0.02, 40.0, 40.0), "class logits differ"),
        (Parity(1e-4, 1e-5, 40.0, 39.8), "mask AP is 39.80 and PyTorch's 40.00; max_ap_difference is 0.1"),
    ],
)
def test_each_limit_holds(measured: Parity, message: str) -> None:
    PARITY.require(LIMITS)
    with pytest.raises(UserError, match=message):
        measured.require(LIMITS)
