"""From images to instances: the network's last depth, at each image's own size."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from engine_fixtures import CLASSES, model_config, tiny_model

from sskd_core.data.masks import decode_mask
from sskd_core.models.predict import Predictor
from sskd_core.models.protocol import QueryOutput, SegmentationModel, Teacher


def image(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (height, width, 3)).astype(np.uint8)


class BrightSpots(SegmentationModel):
    """Query 0 covers what is bright in red, query 1 in green; query 2 nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.config, self.classes = model_config(), CLASSES
        self.anchor = torch.nn.Parameter(torch.zeros(1))
        self.batches: list[int] = []

    def forward(self, pixels: torch.Tensor) -> QueryOutput:
        self.batches.append(len(pixels))
        mean, std = torch.tensor(self.input.mean).view(3, 1, 1), torch.tensor(self.input.std).view(3, 1, 1)
        planes = 40 * (pixels * std + mean - 0.5)
        planes[:, 2] = -20
        logits = torch.tensor([[0.0, 4.0, 0.0, 0.0], [0.0, 0.0, 2.0, 0.0], [5.0, 0.0, 0.0, 0.0]])
        wrong = QueryOutput([torch.zeros_like(logits)], [torch.zeros_like(planes)], planes)
        return QueryOutput(
            [*wrong.class_logits, logits.expand(len(pixels), -1, -1)], [*wrong.mask_logits, planes], planes
        )


@pytest.fixture
def scene() -> np.ndarray:
    """An image of 48 x 96, half the aspect of the input's, with a red and a green square."""
    picture = np.zeros((48, 96, 3), dtype=np.uint8)
    picture[8:24, 16:40, 0] = 255
    picture[28:40, 60:80, 1] = 255
    return picture


def test_masks_lie_where_the_objects_are(scene):
    found = Predictor(BrightSpots().eval(), score_threshold=0.3).predict([scene])[0]
    assert [item.category for item in found] == [1, 2]
    for item, channel in zip(found, (0, 1), strict=True):
        mask, truth = decode_mask(item.rle), scene[..., channel] > 0
        assert (mask & truth).sum() / (mask | truth).sum() > 0.85
        assert item.area == mask.sum()
        assert item.score == pytest.approx(item.class_score * item.mask_score)
    assert found[0].bbox == pytest.approx((16, 8, 24, 16), abs=1)


def test_scores_are_ordered_and_bounded(scene):
    found = Predictor(BrightSpots().eval()).predict([scene])[0]
    scores = [item.score for item in found]
    assert scores == sorted(scores, reverse=True)
    assert len(found) == 2 * len(CLASSES)  # the empty mask of query 2 is no instance under any class
    assert len(Predictor(BrightSpots().eval(), max_instances=4).predict([scene])[0]) <= 4


def test_all_images_of_a_call_go_through_one_forward_pass(scene):
    model = BrightSpots().eval()
    Predictor(model).predict([scene, scene[:30], scene[:, :50]])
    assert model.batches == [3]


@pytest.mark.parametrize("family", ["dinov2_dpt", "mask2former"])
def test_neighbours_in_a_batch_do_not_change_a_prediction(family):
    predictor = Predictor(tiny_model(family).eval())
    images = [image(20, 70), image(64, 30, seed=1)]
    together = predictor.predict_raw(images)
    for index, item in enumerate(images):
        alone = predictor.predict_raw([item])[0]
        assert len(alone) == len(together[index])
        for one, other in zip(alone, together[index], strict=True):
            assert one.mask.shape == item.shape[:2]
            assert one.score == pytest.approx(other.score, abs=1e-5)


def test_a_predictor_is_a_teacher():
    predictor = Predictor(tiny_model().eval())
    assert isinstance(predictor, Teacher)
    assert predictor.classes == CLASSES


def test_prediction_keeps_no_graph():
    model = tiny_model().eval()
    Predictor(model).predict([image(32, 64)])
    assert all(parameter.grad is None for parameter in model.parameters())
