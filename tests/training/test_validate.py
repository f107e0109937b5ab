"""Validation: mask AP of a network on all images of a split."""

from __future__ import annotations

import pytest
import torch
from engine_fixtures import CLASSES, Rectangles, model_config, tiny_model

from sskd_core.models.protocol import QueryOutput, SegmentationModel
from sskd_core.training import validate as validate_module
from sskd_core.training.validate import Validator


class KnowsRectangles(SegmentationModel):
    """Finds the rectangles by their places and colours."""

    def __init__(self, wrong_class: bool = False) -> None:
        super().__init__()
        self.config, self.classes, self.wrong_class = model_config(), CLASSES, wrong_class
        self.anchor = torch.nn.Parameter(torch.zeros(1))
        self.batches: list[int] = []

    def forward(self, pixels: torch.Tensor) -> QueryOutput:
        self.batches.append(len(pixels))
        mean, std = torch.tensor(self.input.mean).view(3, 1, 1), torch.tensor(self.input.std).view(3, 1, 1)
        bright = pixels * std + mean - 0.43
        places = torch.zeros(3, 32, 64)
        for place in range(3):
            # The columns of `Rectangles`, enlarged by 4/3.
            places[place, :, max(0, round((1 + 16 * place) * 4 / 3) - 4) : round((12 + 16 * place) * 4 / 3) + 4] = 1.0
        masks, classes = [], []
        for image in bright:
            found = [image.max(0).values * area - 0.2 * (1 - area) for area in places]
            colours = [(image * area).flatten(1).clamp(min=0).sum(1) for area in places]
            masks.append(60 * torch.stack(found))
            classes.append(
                torch.stack(
                    [torch.cat([colour.roll(int(self.wrong_class)), torch.tensor([5.0])]) for colour in colours]
                )
            )
        return QueryOutput([torch.stack(classes)], [torch.stack(masks)], pixels)


@pytest.fixture
def validator() -> Validator:
    source = Rectangles(9)
    return Validator(source.records(), source.truth(), source.read)


def test_a_network_that_finds_everything_scores_high(validator):
    assert validator(KnowsRectangles().eval()) > 70.0


def test_the_classes_count(validator):
    assert validator(KnowsRectangles(wrong_class=True).eval()) < 0.5 * validator(KnowsRectangles().eval())


def test_a_network_that_knows_nothing_scores_low(validator):
    assert 0.0 <= validator(tiny_model().eval()) < 10.0


def test_images_go_through_in_batches(validator, monkeypatch):
    monkeypatch.setattr(validate_module, "_BATCH", 4)
    model = KnowsRectangles().eval()
    batched = validator(model)
    assert model.batches == [4, 4, 1]
    monkeypatch.setattr(validate_module, "_BATCH", 16)
    assert validator(model) == pytest.approx(batched)
