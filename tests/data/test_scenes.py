"""Demo scenes: pure functions of their name, with masks that say exactly what is seen."""

from __future__ import annotations

import numpy as np
import pytest

from sskd_core.data.scenes import CLASSES, HEIGHT, WIDTH, render_scene

SCENES = [(domain, index) for domain in ("source", "target") for index in range(6)]


@pytest.mark.parametrize(("domain", "index"), SCENES)
def test_a_scene_is_an_image_with_its_visible_objects(domain, index):
    scene = render_scene(0, domain, "labeled", index)
    assert scene.image.shape == (HEIGHT, WIDTH, 3)
    assert scene.image.dtype == np.uint8
    assert len(scene.categories) == len(scene.masks)
    assert all(0 <= category < len(CLASSES) for category in scene.categories)
    if scene.masks:
        stacked = np.stack(scene.masks)
        assert stacked.shape[1:] == (HEIGHT, WIDTH)
        assert stacked.sum(0).max() == 1  # no overlap
        assert stacked.sum((1, 2)).min() >= 40


def test_equal_names_give_equal_scenes():
    first, second = render_scene(3, "target", "val", 7), render_scene(3, "target", "val", 7)
    assert np.array_equal(first.image, second.image)
    assert first.categories == second.categories
    assert all(np.array_equal(one, other) for one, other in zip(first.masks, second.masks, strict=True))


def test_seeds_splits_domains_and_numbers_share_no_scene():
    names = [
        (seed, domain, split, index)
        for seed in (0, 1)
        for domain in ("source", "target")
        for split in ("labeled", "val")
        for index in (0, 1)
    ]
    images = {render_scene(*name).image.tobytes() for name in names}
    assert len(images) == len(names)


def test_every_class_occurs_and_most_scenes_have_several_objects():
    scenes = [render_scene(0, "source", "labeled", index) for index in range(25)]
    assert {category for scene in scenes for category in scene.categories} == set(range(len(CLASSES)))
    assert np.mean([len(scene.masks) for scene in scenes]) > 2


def test_objects_differ_from_what_is_around_them():
    """A mask that did not lie on its object would show no step in colour at its outline."""
    steps = []
    for index in range(8):
        scene = render_scene(0, "source", "labeled", index)
        image = scene.image.astype(float).mean(2)
        gradient = np.abs(np.diff(image, axis=1))
        for mask in scene.masks:
            outline = mask[:, 1:] != mask[:, :-1]
            steps.append(gradient[outline].mean() / gradient[~outline].mean())
    assert np.median(steps) > 1.5


def test_the_target_domain_looks_different():
    def noise(domain: str) -> float:
        images = [render_scene(0, domain, "labeled", index).image.astype(float) for index in range(6)]
        return float(np.mean([np.median(np.abs(np.diff(image, n=2, axis=1))) for image in images]))

    def redness(domain: str) -> float:
        images = [render_scene(0, domain, "labeled", index).image.astype(float) for index in range(6)]
        return float(np.mean([image[..., 0].mean() - image[..., 2].mean() for image in images]))

    assert noise("target") > 1.3 * noise("source")
    assert abs(redness("target") - redness("source")) > 10
