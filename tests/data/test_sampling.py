"""The order of training images: a pure function of seed, stream and step."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sskd_core.data.sampling import EndlessSampler, generator, repeat_factors


@given(st.integers(1, 40), st.integers(1, 60), st.integers(0, 2**31))
def test_each_epoch_is_a_permutation_whatever_the_batch(size, batch, seed):
    sampler = EndlessSampler(size, batch, seed, "labeled")
    steps = -(-3 * size // batch)
    drawn = [index for step in range(steps) for index in sampler.indices(step)]
    for epoch in range(3):
        assert sorted(drawn[epoch * size : (epoch + 1) * size]) == list(range(size))


def test_batches_run_across_the_ends_of_epochs():
    sampler = EndlessSampler(5, 3, 0, "labeled")
    assert all(len(sampler.indices(step)) == 3 for step in range(10))


def test_epochs_differ():
    sampler = EndlessSampler(20, 20, 0, "labeled")
    assert sampler.indices(0) != sampler.indices(1)


@given(st.lists(st.integers(0, 30), min_size=1, max_size=20))
def test_any_step_can_be_asked_for_in_any_order(steps):
    sampler = EndlessSampler(7, 4, 1, "labeled")
    expected = {step: EndlessSampler(7, 4, 1, "labeled").indices(step) for step in set(steps)}
    assert [sampler.indices(step) for step in steps] == [expected[step] for step in steps]


def test_seeds_and_streams_are_independent():
    orders = {
        (seed, stream): tuple(EndlessSampler(50, 50, seed, stream).indices(0))
        for seed in (0, 1)
        for stream in ("labeled", "unlabeled")
    }
    assert len(set(orders.values())) == 4


def test_generators_of_different_purposes_are_independent():
    streams = [
        *[("order", "labeled", 0), ("order", "labeled", 1), ("order", "unlabeled", 0)],
        *[("augment", "labeled", 0, 1), ("augment", "labeled", 1, 0), ("augment", "labeled", 0)],
        *[("step", 0), ("step", 1), ("steps", 0), ("st", "ep", 0)],
    ]
    draws = {generator(seed, *stream).integers(2**63) for stream in streams for seed in (0, 1)}
    assert len(draws) == 2 * len(streams)
    assert np.array_equal(generator(3, "step", 4).random(5), generator(3, "step", 4).random(5))


def test_repeat_factors_are_those_of_the_rarest_class():
    images = [[0], [0, 1], [0], [], [0, 0]]
    # Class 0 is on 4 of 5 images, class 1 on 1.
    common, rare = (10 / 0.8) ** 0.5, (10 / 0.2) ** 0.5
    assert repeat_factors(images, 10.0) == pytest.approx([common, rare, common, 1.0, common])
    assert repeat_factors(images, 0.3) == pytest.approx([1.0, (0.3 / 0.2) ** 0.5, 1.0, 1.0, 1.0])


@given(st.lists(st.floats(0.5, 8.0), min_size=1, max_size=30), st.integers(0, 99))
def test_items_come_as_often_as_their_frequency_says(frequencies, seed):
    size, epochs = len(frequencies), 20
    sampler = EndlessSampler(size, size, seed, "labeled", frequencies)
    expected = np.array(frequencies) * size / sum(frequencies)
    total = np.zeros(size)
    for epoch in range(epochs):
        drawn = np.bincount(sampler.indices(epoch), minlength=size)
        assert drawn.sum() == size
        assert (np.abs(drawn - expected) < 1 + 1e-6).all()
        total += drawn
    assert np.abs(total / epochs - expected).max() < 0.6


def test_equal_frequencies_are_a_permutation():
    assert sorted(EndlessSampler(9, 9, 0, "labeled", [3.0] * 9).indices(4)) == list(range(9))
