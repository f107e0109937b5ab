"""The strong view: aligned with the weak one, drawn from (seed, step, place) alone, padding untouched."""

from __future__ import annotations

import pytest
import torch
from torchvision.transforms.v2 import functional as colour

from sskd_core.config.contrast import StrongViewConfig
from sskd_core.config.model import InputConfig
from sskd_core.data.strong_view import strong_views

SIZE = InputConfig(height=32, width=48)
OFF = {"brightness": 0, "contrast": 0, "saturation": 0, "hue": 0, "grayscale": 0, "blur_kernel": 1}
FULL = [(32, 48), (32, 48)]


def batch() -> torch.Tensor:
    """Return two normalised random images."""
    mean, std = torch.tensor(SIZE.mean).view(3, 1, 1), torch.tensor(SIZE.std).view(3, 1, 1)
    return (torch.rand(2, 3, 32, 48, generator=torch.Generator().manual_seed(0)) - mean) / std


def raw(pixels: torch.Tensor) -> torch.Tensor:
    return pixels * torch.tensor(SIZE.std).view(3, 1, 1) + torch.tensor(SIZE.mean).view(3, 1, 1)


def views(pixels, content=FULL, seed=0, step=0, **config):
    places = range(len(content))
    return strong_views(pixels, content, SIZE, StrongViewConfig(**config), seed, step, places)


def test_with_everything_off_the_strong_view_is_the_weak_one():
    assert torch.allclose(views(batch(), **OFF), batch(), atol=1e-4)


def test_the_draws_are_a_pure_function_of_seed_step_and_place():
    assert torch.equal(views(batch()), views(batch()))
    assert not torch.equal(views(batch()), views(batch(), seed=1))
    assert not torch.equal(views(batch()), views(batch(), step=1))
    twins = batch()[:1].repeat(2, 1, 1, 1)
    made = views(twins)
    assert not torch.equal(made[0], made[1])


def test_padding_stays_as_it_is_and_colours_nothing():
    pixels = batch()
    made = views(pixels, content=[(20, 30), (32, 48)])
    assert torch.equal(made[0, :, 20:], pixels[0, :, 20:])
    assert torch.equal(made[0, :, :, 30:], pixels[0, :, :, 30:])
    other = pixels.clone()
    other[0, :, 20:] = 5.0
    assert torch.equal(views(other, content=[(20, 30), (32, 48)])[0, :, :20, :30], made[0, :, :20, :30])


def test_pixels_stay_where_they_are():
    pixels = torch.zeros(2, 3, 32, 48)
    pixels[:, :, 10, 20] = 2.0
    brightest = raw(views(pixels)).sum(1).flatten(1).argmax(1)
    assert brightest.tolist() == [10 * 48 + 20] * 2


def test_a_sliver_is_not_blurred():
    assert torch.isfinite(views(batch(), content=[(1, 48), (32, 2)])).all()


def test_grey_is_grey():
    made = raw(views(batch(), **{**OFF, "grayscale": 1.0}))
    assert torch.allclose(made[:, 0], made[:, 1], atol=1e-6)
    assert torch.allclose(made, colour.rgb_to_grayscale(raw(batch()), 3), atol=1e-6)


def test_values_stay_within_the_range_of_colours():
    made = raw(views(batch(), brightness=1.0, contrast=1.0, saturation=1.0))
    assert made.min() >= -1e-5
    assert made.max() <= 1 + 1e-5


def test_each_range_reaches_its_operation():
    plain = raw(views(batch(), **OFF))
    for name in ("brightness", "contrast", "saturation", "hue"):
        changed = raw(views(batch(), **{**OFF, name: 0.3}))
        assert not torch.allclose(changed, plain, atol=1e-3), name
    brighter = raw(views(batch(), **{**OFF, "brightness": 0.3}))[0]
    inside = (brighter < 0.99) & (plain[0] > 0.01)
    factors = (brighter / plain[0])[inside]
    assert factors.std() < 1e-4
    assert 0.7 <= float(factors.mean()) <= 1.3


@pytest.mark.parametrize("values", [{"blur_sigma": (2.0, 1.0)}, {"blur_kernel": 4}])
def test_impossible_ranges_are_refused(values):
    with pytest.raises(ValueError, match=next(iter(values))):
        StrongViewConfig(**values)


def test_what_happens_always_draws_as_before():
    assert torch.equal(views(batch(), jitter_probability=1.0, blur_probability=1.0), views(batch()))


@pytest.mark.parametrize("off", ["jitter_probability", "blur_probability"])
def test_what_never_happens_is_off(off):
    others = {**OFF, "blur_kernel": 5} if off == "jitter_probability" else OFF
    strong = {"brightness": 0.5, "contrast": 0.5} if off == "jitter_probability" else {"blur_kernel": 5}
    without = {"blur_probability": 0.0} if off == "jitter_probability" else {}
    still = views(batch(), **{**others, **strong, off: 0.0, **without})
    assert torch.allclose(still, batch(), atol=1e-4)


def test_probabilities_choose_some_images():
    twins = batch()[:1].repeat(40, 1, 1, 1)
    found = views(twins, [FULL[0]] * 40, **{**OFF, "brightness": 0.4, "jitter_probability": 0.5})
    changed = (found - twins).abs().flatten(1).amax(1) > 1e-3
    assert 8 < int(changed.sum()) < 32


def test_erased_boxes_hold_noise_inside_the_content_alone():
    content = [(20, 30)] * 20
    twins = batch()[:1].repeat(20, 1, 1, 1)
    found = strong_views(twins, content, SIZE, StrongViewConfig(**OFF), 0, 0, range(20), erase=True)
    changed = ((found - twins).abs() > 1e-3).any(1)
    assert not changed[:, 20:].any()
    assert not changed[:, :, 30:].any()
    share = changed[:, :20, :30].float().mean((1, 2))
    assert (share > 0).float().mean() > 0.5
    assert share.max() < 0.65
    assert torch.equal(found, strong_views(twins, content, SIZE, StrongViewConfig(**OFF), 0, 0, range(20), erase=True))
