"""From images to splits without a store: precedence, crowd regions, and the parts of `DataConfig` that matter."""

from __future__ import annotations

import numpy as np
import pytest

from sskd_core.config.data import DataConfig, LabeledSource
from sskd_core.data.annotated import AnnotatedImage
from sskd_core.data.masks import encode_mask
from sskd_core.data.partition import partition
from sskd_core.data.records import ImageRecord, Instance, LabeledImage
from sskd_core.errors import DataError

SOURCE = LabeledSource(annotations="a.json", images="a")
RLE = encode_mask(np.ones((2, 2), bool))


def image(number: int, category: int = 0, crowd: bool = False, digest: str | None = None) -> AnnotatedImage:
    name = f"{number:03d}.png"
    record = ImageRecord(name, f"s3://b/{name}", digest or f"sha256:{number:064d}", 1, 2, 2)
    return AnnotatedImage(record, LabeledImage(name, 2, 2, [Instance(category, RLE, is_crowd=crowd)]))


def config(**values) -> DataConfig:
    return DataConfig(labeled=SOURCE, unlabeled=["u"], **values)


def sizes(splits) -> dict[str, int]:
    return {name: len(images) for name, images in splits.items()}


def test_fractions_make_what_is_not_given():
    images = [image(number) for number in range(40)]
    splits, left_out = partition({"labeled": images}, config(val_fraction=0.1, test_fraction=0.25), seed=0)
    assert sizes(splits) == {"labeled": 26, "val": 4, "test": 10}
    assert not +left_out
    given = {"labeled": images, "test": [image(100)]}
    splits, _ = partition(given, config(val_fraction=0.1, test_fraction=0.25), seed=0)
    assert sizes(splits) == {"labeled": 36, "val": 4, "test": 1}


def test_images_of_a_given_test_never_reach_training_or_val():
    given = {"labeled": [image(number) for number in range(40)], "test": [image(number) for number in range(5)]}
    splits, left_out = partition(given, config(), seed=0)
    assert sizes(splits) == {"labeled": 30, "val": 5, "test": 5}
    assert +left_out == {"labeled_in_other_splits": 5}


def test_every_split_is_sorted():
    splits, _ = partition({"labeled": [image(number) for number in range(40)]}, config(max_labeled=20), seed=3)
    for images in splits.values():
        names = [item.record.image_id for item in images]
        assert names == sorted(names)


@pytest.mark.parametrize("max_labeled", [1, 5, 27, 28, 100])
def test_max_labeled_bounds_training_alone(max_labeled):
    splits, left_out = partition({"labeled": [image(n) for n in range(40)]}, config(max_labeled=max_labeled), seed=0)
    assert sizes(splits) == {"labeled": min(28, max_labeled), "val": 6, "test": 6}
    assert left_out["over_max_labeled"] == max(0, 28 - max_labeled)


def test_crowd_regions_alone_are_no_object():
    given = {"labeled": [image(n) for n in range(10)], "test": [image(100, crowd=True)], "val": [image(101)]}
    with pytest.raises(DataError) as caught:
        partition(given, config(), seed=0)
    assert caught.value.problems == ["split 'test' has 1 images and no object on them; annotate more images"]


@pytest.mark.parametrize("seed", range(5))
def test_a_crowd_region_does_not_stand_for_its_class_when_rare_classes_are_seen_to(seed):
    images = [image(n, category=1, crowd=True) for n in range(37)] + [image(n, category=1) for n in range(37, 40)]
    splits, _ = partition({"labeled": images}, config(), seed)
    for members in splits.values():
        assert any(not item.is_crowd for member in members for item in member.labels.instances)
