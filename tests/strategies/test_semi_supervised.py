"""Annotations and pseudo-labels in one forward pass, each half scored by itself."""

from __future__ import annotations

import pytest
import torch
from engine_fixtures import Rectangles, batch_loader, tiny_model, train_config

from sskd_core.data.loader import Example
from sskd_core.losses.set_criterion import SetCriterion
from sskd_core.strategies.base import targets_of
from sskd_core.strategies.semi_supervised import SemiSupervised


class Unlabeled(Rectangles):
    """The same images in the other order; `empty` ones have no pseudo-label."""

    empty = False

    def __getitem__(self, index: int) -> Example:
        example = super().__getitem__(self.count - 1 - index)
        if self.empty:
            return Example(example.image, [], example.masks[:0])
        return example


class Empty(Unlabeled):
    empty = True


@pytest.fixture
def make_strategy():
    """Return a function that makes the strategy, and the criterion."""
    criterion = SetCriterion(train_config().criterion)

    def make(lambda_semi=1.0, examples=None) -> SemiSupervised:
        labeled = batch_loader(train_config(labeled_batch=2))
        unlabeled = batch_loader(train_config(labeled_batch=3), examples or Unlabeled(), stream="unlabeled")
        return SemiSupervised(labeled, unlabeled, criterion, lambda_semi)

    return make, criterion


def step(strategy, step=1):
    torch.manual_seed(0)
    return strategy.step(tiny_model().eval(), step)


@torch.no_grad()
def test_each_half_is_scored_by_itself(make_strategy):
    make, criterion = make_strategy
    strategy = make()
    found = step(strategy)
    labeled, unlabeled = strategy._labeled.batch(1), strategy._unlabeled.batch(1)
    model = tiny_model().eval()
    torch.manual_seed(0)
    supervised = criterion(model(labeled.pixels), targets_of(labeled, labeled.pixels.device))
    pseudo = criterion(model(unlabeled.pixels), targets_of(unlabeled, unlabeled.pixels.device))
    for prefix, terms in (("sup", supervised), ("semi", pseudo)):
        for name, value in terms.items():
            assert float(found.losses[f"{prefix}_{name}"]) == pytest.approx(float(value), rel=1e-4)
    assert found.figures["pseudo_instances_per_image"] == unlabeled.instances / 3
    ratio = sum(pseudo.values()) / sum(supervised.values())
    assert found.figures["semi_to_sup_ratio"] == pytest.approx(float(ratio), rel=1e-4)


@torch.no_grad()
def test_the_weight_scales_the_pseudo_terms_alone(make_strategy):
    make, _ = make_strategy
    one, three = step(make(1.0)), step(make(3.0))
    for name, value in one.losses.items():
        factor = 3.0 if name.startswith("semi") else 1.0
        assert float(three.losses[name]) == pytest.approx(factor * float(value), rel=1e-5)
    assert one.figures == three.figures  # the ratio is of the unweighted terms


def test_both_halves_go_through_one_forward_pass(make_strategy):
    make, _ = make_strategy
    model = tiny_model().eval()
    seen = []
    model.encoder.register_forward_pre_hook(lambda module, inputs: seen.append(len(inputs[0])))
    make().step(model, 0)
    assert seen == [5]


def test_without_a_pseudo_instance_the_step_is_finite(make_strategy):
    make, _ = make_strategy
    terms = step(make(examples=Empty()))
    assert terms.figures["pseudo_instances_per_image"] == 0.0
    assert float(terms.losses["semi_mask"].detach()) == 0.0
    assert all(torch.isfinite(value) for value in terms.losses.values())


def test_closing_closes_both_loaders(make_strategy):
    make, _ = make_strategy
    strategy, closed = make(), []
    strategy._labeled.close = lambda: closed.append("labeled")
    strategy._unlabeled.close = lambda: closed.append("unlabeled")
    strategy.close()
    assert closed == ["labeled", "unlabeled"]
