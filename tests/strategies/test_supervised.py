"""Learning from annotations alone is the set loss on the labelled batch, and nothing else."""

from __future__ import annotations

import pytest
import torch
from engine_fixtures import batch_loader, tiny_model, train_config

from sskd_core.losses.set_criterion import SetCriterion
from sskd_core.strategies.base import targets_of
from sskd_core.strategies.supervised import Supervised


@pytest.fixture
def criterion() -> SetCriterion:
    return SetCriterion(train_config().criterion)


@pytest.mark.parametrize("family", ["dinov2_dpt", "mask2former"])
def test_the_terms_are_those_of_the_batch_of_the_step(family, criterion):
    model, loader = tiny_model(family).eval(), batch_loader(train_config())
    torch.manual_seed(0)
    terms = Supervised(loader, criterion).step(model, step=3)
    batch = batch_loader(train_config()).batch(3)
    torch.manual_seed(0)
    expected = criterion(model(batch.pixels), targets_of(batch, batch.pixels.device))
    assert terms.losses.keys() == {"sup_class", "sup_mask", "sup_dice"}
    for name, value in expected.items():
        assert torch.equal(terms.losses[f"sup_{name}"], value)


def test_a_step_reaches_the_model(criterion):
    model = tiny_model()
    sum(Supervised(batch_loader(train_config()), criterion).step(model, 0).losses.values()).backward()
    assert model.class_head.weight.grad.abs().sum() > 0
    assert model.encoder.embeddings.cls_token.grad.abs().sum() > 0


def test_closing_closes_the_loader(criterion):
    closed = []

    class Loader:
        def close(self) -> None:
            closed.append(True)

    Supervised(Loader(), criterion).close()
    assert closed == [True]


def test_rows_cuts_all_depths_alike():
    output = tiny_model().eval()(torch.zeros(3, 3, 32, 64))
    part = output.rows(slice(1, None))
    assert {len(item) for item in [*part.class_logits, *part.mask_logits, *part.encoder_levels]} == {2}
    assert torch.equal(part.mask_logits[0], output.mask_logits[0][1:])
