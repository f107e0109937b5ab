"""The demo's data set lies in the bucket as a user's would, is written once, and is read by the ordinary stage."""

from __future__ import annotations

import json

import numpy as np

from sskd_core.data.demo import DemoSizes, write_demo_dataset
from sskd_core.data.images import decode_image
from sskd_core.data.masks import decode_mask
from sskd_core.data.scenes import CLASSES, render_scene

SIZES = DemoSizes(labeled=3, unlabeled=4, val=1, test=2)


def files(store, prefix: str) -> list[str]:
    return [item.uri.removeprefix(prefix + "/") for item in store.list(prefix)]


def test_the_unlabelled_side_is_bare_images(store):
    config = write_demo_dataset(store, 0, SIZES)
    (prefix,) = config.unlabeled
    assert files(store, prefix) == [f"{index:06d}.jpg" for index in range(4)]
    assert not store.exists(prefix.removesuffix("/images") + "/annotations.json")


def test_annotations_are_those_of_the_scenes(store):
    config = write_demo_dataset(store, 5, SIZES)
    document = json.loads(store.get(config.labeled.annotations))
    assert [item["name"] for item in document["categories"]] == list(CLASSES)
    ids = [item["id"] for item in document["categories"]]
    assert ids != list(range(len(ids)))  # gaps: an id is no index
    scene = render_scene(5, "target", "labeled", 1)
    found = [item for item in document["annotations"] if item["image_id"] == 2]
    assert [ids.index(item["category_id"]) for item in found] == scene.categories
    for item, mask in zip(found, scene.masks, strict=True):
        np.testing.assert_array_equal(decode_mask(item["segmentation"]), mask)
    picture = decode_image(store.get(f"{config.labeled.images}/000001.jpg"), "demo")
    assert np.abs(picture.astype(int) - scene.image).mean() < 8  # JPEG, but this scene


def test_it_is_written_once_and_by_recipe(store):
    first = write_demo_dataset(store, 0, SIZES)
    uri = f"{first.unlabeled[0]}/000000.jpg"
    store.put(uri, b"marked")
    assert write_demo_dataset(store, 0, SIZES) == first
    assert store.get(uri) == b"marked"
    assert write_demo_dataset(store, 1, SIZES) != first
    assert write_demo_dataset(store, 0, SIZES.model_copy(update={"test": 1})) != first


def test_a_half_written_set_is_completed(store):
    first = write_demo_dataset(store, 0, SIZES)
    root = first.unlabeled[0].removesuffix("/unlabeled/images")
    store.delete(f"{root}/complete.json")
    store.delete(f"{root}/val/annotations.json")
    seen: list[tuple[int, int]] = []
    write_demo_dataset(store, 0, SIZES, lambda done, total: seen.append((done, total)))
    assert seen[-1] == (10, 10)
    assert store.exists(f"{root}/val/annotations.json")
