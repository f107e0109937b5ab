"""From records and labels to batches: the same whoever prepares them, in bounded memory."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch
from engine_fixtures import INPUT, Rectangles

from sskd_core.config.train import AugmentConfig
from sskd_core.data import loader as loader_module
from sskd_core.data.loader import Batch, BatchLoader, Example, LabeledExamples
from sskd_core.data.masks import encode_mask
from sskd_core.data.records import Instance, LabeledImage
from sskd_core.distributed import group
from sskd_core.errors import ConfigError, DataError

STILL = AugmentConfig(scale=(1.0, 1.0), horizontal_flip=0.0, brightness=0, contrast=0, saturation=0, hue=0)


@pytest.fixture
def make_loader():
    """Return a function that makes loaders of rectangles and closes them after the test."""
    made: list[BatchLoader] = []

    def make(batch=2, workers=0, stream="labeled", seed=0, examples=None, augment=None) -> BatchLoader:
        augment = augment or AugmentConfig()
        made.append(BatchLoader(examples or Rectangles(), batch, INPUT, augment, seed, stream, workers))
        return made[-1]

    yield make
    for item in made:
        item.close()


def same(first: Batch, second: Batch) -> bool:
    pairs = zip(first.labels + first.masks, second.labels + second.masks, strict=True)
    return torch.equal(first.pixels, second.pixels) and all(torch.equal(one, other) for one, other in pairs)


def test_a_batch_has_the_promised_shapes(make_loader):
    batch = make_loader(batch=5).batch(0)
    assert batch.pixels.shape == (5, 3, 32, 64)
    assert batch.pixels.dtype == torch.float32
    for labels, masks in zip(batch.labels, batch.masks, strict=True):
        assert labels.dtype == torch.int64
        assert masks.shape == (len(labels), 32, 64)
        assert set(masks.unique().tolist()) <= {0.0, 1.0}
    assert batch.instances == sum(len(labels) for labels in batch.labels)


def test_labels_and_masks_stay_with_their_image(make_loader):
    examples = Rectangles()
    loader = make_loader(batch=5, augment=STILL)
    order = loader._sampler.indices(0)
    batch = loader.batch(0)
    assert [labels.tolist() for labels in batch.labels] == [examples[index].labels for index in order]
    for masks, index in zip(batch.masks, order, strict=True):
        # 24 x 48 becomes 32 x 64: by 4/3 on both sides.
        assert masks.sum((1, 2)).tolist() == pytest.approx(
            [mask.sum() * 16 / 9 for mask in examples[index].masks], rel=0.05
        )


def test_the_number_of_workers_changes_nothing(make_loader):
    alone, together = make_loader(workers=0), make_loader(workers=2)
    assert all(same(alone.batch(step), together.batch(step)) for step in range(8))


def test_a_resumed_loader_goes_on_where_the_first_one_stopped(make_loader):
    whole, resumed = make_loader(workers=2), make_loader(workers=2)
    expected = [whole.batch(step) for step in range(7)]
    assert all(same(resumed.batch(step), expected[step]) for step in range(4, 7))


def test_streams_seeds_and_steps_draw_independently(make_loader):
    batches = [
        make_loader().batch(0),
        make_loader().batch(5),  # the same order position of another epoch
        make_loader(stream="unlabeled").batch(0),
        make_loader(seed=1).batch(0),
    ]
    sums = {round(float(batch.pixels.double().sum()), 6) for batch in batches}
    assert len(sums) == len(batches)


def test_an_image_that_comes_again_is_augmented_anew(make_loader):
    single = make_loader(batch=2, examples=Rectangles(1)).batch(0)
    assert not torch.equal(single.pixels[0], single.pixels[1])


def test_what_the_crop_left_nothing_of_is_dropped(make_loader):
    class OnePixel(Rectangles):
        def __getitem__(self, index: int) -> Example:
            masks = np.zeros((2, 32, 64), np.bool_)
            masks[0, 5, 5:8] = True  # three pixels
            masks[1, 10:12, 10:12] = True  # four
            return Example(np.zeros((32, 64, 3), np.uint8), [0, 1], masks)

    batch = make_loader(examples=OnePixel(), augment=STILL).batch(0)
    assert [labels.tolist() for labels in batch.labels] == [[1], [1]]
    assert [len(masks) for masks in batch.masks] == [1, 1]


def test_images_without_an_instance_are_negatives(make_loader):
    class Empty(Rectangles):
        def __getitem__(self, index: int) -> Example:
            return super().__getitem__(0)

    batch = make_loader(examples=Empty()).batch(0)
    assert batch.instances == 0
    assert [masks.shape for masks in batch.masks] == [(0, 32, 64)] * 2


def test_closing_ends_the_threads(make_loader):
    loader = make_loader(workers=2, stream="closing")
    loader.batch(0)
    loader.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("loader-closing")]


def test_an_image_that_cannot_be_read_is_told_of_in_the_step_that_wants_it(make_loader):
    class Broken(Rectangles):
        def __getitem__(self, index: int) -> Example:
            raise DataError("image 7 is broken")

    with pytest.raises(DataError, match="image 7 is broken"):
        make_loader(examples=Broken(), workers=2).batch(0)


def test_records_are_joined_with_their_labels():
    source = Rectangles()
    joined = LabeledExamples(source.records(), source.truth(), source.read)
    assert len(joined) == len(source)
    for index in range(len(source)):
        assert joined[index].labels == source[index].labels
        assert np.array_equal(joined[index].masks, source[index].masks)
        assert np.array_equal(joined[index].image, source[index].image)


def test_crowd_regions_are_left_out():
    source = Rectangles(1)
    rle = encode_mask(np.ones((24, 48), np.bool_))
    labels = {"0": LabeledImage("0", 48, 24, [Instance(1, rle, is_crowd=True), Instance(2, rle)])}
    assert LabeledExamples(source.records(), labels, source.read)[0].labels == [2]


def test_an_image_without_labels_is_an_error_and_not_a_negative():
    source = Rectangles()
    labels = source.truth()
    del labels["3"], labels["4"]
    with pytest.raises(DataError, match="2 images have no labels, for instance '3'; were the labels made for this"):
        LabeledExamples(source.records(), labels, source.read)
    with pytest.raises(DataError, match="no image to train on"):
        LabeledExamples([], {}, source.read)


@pytest.mark.parametrize(("bound", "expected"), [(1 << 20, 5), (2 * 24 * 48 * 3, 15), (0, 15)])
def test_decoded_images_are_kept_up_to_a_bound(bound, expected, monkeypatch):
    monkeypatch.setattr(loader_module, "_CACHE_BYTES", bound)
    source, reads = Rectangles(), []

    def read(record):
        reads.append(record.image_id)
        return source.read(record)

    joined = LabeledExamples(source.records(), source.truth(), read)
    for _ in range(3):
        for index in range(len(joined)):
            assert np.array_equal(joined[index].image, source[index].image)
    assert len(reads) == expected  # a round over five images evicts two cached ones before they come again
    assert joined._cached_bytes <= bound
    assert joined._cached_bytes == sum(image.nbytes for image in joined._cache.values())


def test_the_processes_of_a_training_share_the_batch_that_one_would_have(make_loader, monkeypatch):
    whole = make_loader(batch=4).batch(3)
    monkeypatch.setattr(group, "world", lambda: 2)
    parts = []
    for rank in (0, 1):
        monkeypatch.setattr(group, "rank", lambda rank=rank: rank)
        parts.append(make_loader(batch=4).batch(3))
    assert [part.first for part in parts] == [0, 2]
    assert torch.equal(torch.cat([part.pixels for part in parts]), whole.pixels)
    for ours, theirs in zip([*parts[0].masks, *parts[1].masks], whole.masks, strict=True):
        assert torch.equal(ours, theirs)
    with pytest.raises(ConfigError, match="labeled_batch of 5 images a step cannot be divided among 2 processes"):
        make_loader(batch=5)
