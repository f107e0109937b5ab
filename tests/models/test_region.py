"""Found instances as queries, batches as outputs, and pasted masks as predictions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from engine_fixtures import CLASSES
from region_fixtures import SIZE, TARGETS, mask_rcnn, pixels

from sskd_core.config.train import SetCriterionConfig
from sskd_core.data.preprocess import instances_from_logits
from sskd_core.losses.choose import criterion_of
from sskd_core.losses.region import RegionCriterion
from sskd_core.models.predict import make_predictor
from sskd_core.models.region import RegionModel, Regions, as_queries
from sskd_core.models.region_predict import RegionPredictor


def found(*items: tuple[int, float, torch.Tensor]) -> Regions:
    """Return regions of one image: label, score, mask probabilities."""
    labels = torch.tensor([label for label, _, _ in items], dtype=torch.int64)
    scores = torch.tensor([score for _, score, _ in items])
    return Regions(labels, scores, lambda index: items[index][2])


HALF = torch.zeros(4, 6).index_fill(1, torch.arange(3), 0.9)


def test_queries_give_back_scores_labels_and_masks():
    output = as_queries([found((2, 0.75, HALF), (0, 0.5, HALF.flip(1))), found()], (4, 6), len(CLASSES))
    probabilities = output.class_logits[-1].softmax(-1)
    assert probabilities.shape == (2, 2, 4)
    assert probabilities[0, 0, 2].item() == pytest.approx(0.75, abs=1e-5)
    assert probabilities[0, 0, 3].item() == pytest.approx(0.25, abs=1e-5)
    assert probabilities[0, 1, 0].item() == pytest.approx(0.5, abs=1e-5)
    assert (probabilities[1, :, 3] > 0.999).all()  # nothing in the second image
    assert torch.allclose(output.mask_logits[-1][0, 0].sigmoid(), HALF, atol=1e-6)
    assert (output.mask_logits[-1][1].sigmoid() < 1e-6).all()
    read = instances_from_logits(
        output.class_logits[-1][0].numpy(), output.mask_logits[-1][0].numpy(), (16, 24), (16, 24), (4, 6), 2
    )
    assert [(item.category, round(item.class_score, 4)) for item in read] == [(2, 0.75), (0, 0.5)]
    assert np.array_equal(read[0].mask, HALF.numpy() > 0.5)


def test_an_image_without_an_instance_is_one_empty_query():
    output = as_queries([found()], (4, 6), 3)
    assert output.class_logits[-1].shape == (1, 1, 4)
    assert output.class_logits[-1].argmax(-1).tolist() == [[3]]


def test_in_training_the_output_is_the_batch_and_the_network_scores_it():
    model = mask_rcnn().train()
    criterion = criterion_of(model, SetCriterionConfig())
    assert isinstance(criterion, RegionCriterion)
    torch.manual_seed(1)
    direct = model.losses(pixels()[1:], TARGETS[1:])
    torch.manual_seed(1)
    asked = criterion(model(pixels()).rows(slice(1, None)), TARGETS[1:])
    assert asked.keys() == direct.keys()
    assert all(torch.equal(asked[name], direct[name]) for name in direct)


def test_in_eval_mode_the_output_is_queries():
    model = mask_rcnn().eval()
    with torch.no_grad():
        output = model(pixels())
    assert output.class_logits[-1].shape == (2, 8, len(CLASSES) + 1)
    assert output.mask_logits[-1].shape == (2, 8, 16, 24)


class Constant(RegionModel):
    """Finds the left half of the input with score 0.8 and the whole with 0.3."""

    def __init__(self) -> None:
        super().__init__()
        self.config, self.classes = mask_rcnn().config, CLASSES
        self.value = torch.nn.Parameter(torch.zeros(()))

    def detect(self, pixels, sizes):
        assert len(pixels) == len(sizes)
        regions = []
        for height, width in sizes:
            left = torch.zeros(height, width)
            left[:, : round(width / 2)] = 0.9
            regions.append(found((1, 0.8, left), (0, 0.3, torch.full((height, width), 0.6))))
        return regions


def test_masks_come_at_the_size_of_each_image_without_its_padding():
    predictor = make_predictor(Constant().eval())
    assert isinstance(predictor, RegionPredictor)
    # 64 x 96 takes 40 x 20 as 64 x 32, so the left half of the input covers the whole image.
    tall, wide = predictor.predict_raw([np.zeros((40, 20, 3), np.uint8), np.zeros((100, 150, 3), np.uint8)])
    assert [item.mask.shape for item in tall + wide] == [(40, 20)] * 2 + [(100, 150)] * 2
    assert tall[0].mask.all()
    assert wide[0].mask[:, :75].all()
    assert not wide[0].mask[:, 75:].any()
    assert [(item.category, item.score) for item in wide] == [(1, pytest.approx(0.8)), (0, pytest.approx(0.3))]
    assert wide[0].mask_score == pytest.approx(0.9)


@pytest.mark.parametrize(
    ("settings", "count"),
    [({"score_threshold": 0.5}, 1), ({"max_instances": 1}, 1), ({"mask_threshold": 0.7}, 1), ({}, 2)],
    ids=str,
)
def test_thresholds_and_limits_hold(settings, count):
    predictor = make_predictor(Constant().eval(), **settings)
    assert len(predictor.predict([np.zeros((SIZE.height, SIZE.width, 3), np.uint8)])[0]) == count
