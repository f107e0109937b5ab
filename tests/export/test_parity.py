from __future__ import annotations

import copy
import math
from pathlib import Path

import pytest
import torch
from engine_fixtures import Rectangles

from sskd_core.config.finish import ExportConfig
from sskd_core.errors import UserError
from sskd_core.export.parity import Compared, Parity, Split, compare, network_ap
from sskd_core.export.predictor import OnnxPredictor
from sskd_core.models.protocol import SegmentationModel

IMAGES = 20
PARITY = Parity(1e-4, 1e-5, 40.0, 40.05)
LIMITS = ExportConfig(max_logit_difference=1e-2, max_ap_difference=0.1)


def measure(model: SegmentationModel, exported: Path, images: int = 3) -> tuple[Compared, list[int]]:
    told: list[int] = []
    data, predictor = Rectangles(IMAGES), OnnxPredictor(exported, threads=1)
    split = Split(data.records(), data.truth(), data.read)
    mask_ap = network_ap(model, split, told.append)
    return compare(model, mask_ap, predictor, split, images, told.append), told


def test_an_exported_student_agrees_with_its_network(student: SegmentationModel, exported: Path) -> None:
    compared, told = measure(student, exported)
    found = compared.parity
    assert found.max_mask_logit_difference < 1e-4
    assert found.max_class_logit_difference < 1e-4
    assert found.mask_ap_difference < 0.1
    found.require(LIMITS)
    assert told == [16, 20, 16, 20]
    assert set(compared.found) == set(compared.matches) == {str(index) for index in range(IMAGES)}


def test_a_file_of_other_weights_is_found_out(student: SegmentationModel, exported: Path) -> None:
    other = copy.deepcopy(student)
    with torch.no_grad():
        other.class_head.bias += 0.5
    found = measure(other, exported, images=17)[0].parity
    assert found.max_class_logit_difference == pytest.approx(0.5, abs=1e-3)
    with pytest.raises(UserError, match=r"class logits differ from PyTorch's by 5.00e-01"):
        found.require(LIMITS)


def test_nan_logits_are_found_out(student: SegmentationModel, exported: Path) -> None:
    broken = copy.deepcopy(student)
    with torch.no_grad():
        broken.class_head.bias[0] = math.nan
    found = measure(broken, exported)[0].parity
    assert math.isnan(found.max_class_logit_difference)
    with pytest.raises(UserError, match="class logits differ from PyTorch's by nan"):
        found.require(LIMITS)


def test_a_gain_is_a_difference_and_no_loss() -> None:
    better = Parity(0.0, 0.0, 40.0, 41.0)
    assert (better.mask_ap_difference, better.mask_ap_loss) == (1.0, -1.0)


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
