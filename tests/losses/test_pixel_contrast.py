"""The pixel contrastive loss against a float64 derivation with loops, closed forms, and the claims of its paper."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from sskd_core.config.contrast import PixelContrastConfig, TemperatureConfig
from sskd_core.losses.pixel_contrast import (
    PixelContrast,
    contrast_figures,
    debiased_weights,
    fused_map,
    temperature_at,
)

HOT = 60.0
"""A logit whose softmax is one-hot in float32."""


def normal(*shape: int, seed: int = 0, dtype=torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def unit(*shape: int, seed: int = 0, dtype=torch.float64) -> Tensor:
    return functional.normalize(normal(*shape, seed=seed, dtype=dtype), dim=-1)


def contrast(weak, strong, y, image, temperature=0.1, **config):
    torch.manual_seed(0)
    return PixelContrast(PixelContrastConfig(**config))(weak, strong, y, image, temperature)


def one_hot_prediction(instance: Tensor, queries: int) -> tuple[Tensor, Tensor]:
    """Return logits that give each pixel of [B, h, w] to the query of its instance, and each query its own class."""
    masks = HOT * functional.one_hot(instance, queries).permute(0, 3, 1, 2).double()
    return HOT * torch.eye(queries, queries + 1).double().expand(len(instance), -1, -1), masks


def derived_map(class_logits: np.ndarray, mask_logits: np.ndarray) -> np.ndarray:
    """y of one image by loops: [K, C+1] and [K, N] to [N, K+C+1]."""
    queries, cells = mask_logits.shape
    rows = []
    for cell in range(cells):
        exponents = [math.exp(mask_logits[k, cell]) for k in range(queries)]
        of_query = [value / sum(exponents) for value in exponents]
        of_class = [0.0] * class_logits.shape[1]
        for k in range(queries):
            total = sum(math.exp(value) for value in class_logits[k])
            for c, value in enumerate(class_logits[k]):
                of_class[c] += of_query[k] * math.exp(value) / total
        row = of_query + of_class
        norm = math.sqrt(sum(value * value for value in row))
        rows.append([value / norm for value in row])
    return np.array(rows)


def derived_loss(weak, strong, negatives, temperature: float) -> float:
    """NT-Xent by loops over anchors and their negatives."""
    total = 0.0
    for p in range(len(weak)):
        positive = math.exp(float(weak[p] @ strong[p]) / temperature)
        others = sum(math.exp(float(weak[p] @ weak[int(q)]) / temperature) for q in negatives[p])
        total -= math.log(positive / (positive + others))
    return total / len(weak)


def test_the_fused_map_is_the_derived_one():
    class_logits, mask_logits = normal(2, 5, 4), normal(2, 5, 3, 4, seed=1)
    y, query = fused_map(class_logits, mask_logits, (3, 4))
    assert y.shape == (2, 12, 9)
    for image in range(2):
        expected = derived_map(class_logits[image].numpy(), mask_logits[image].flatten(1).numpy())
        np.testing.assert_allclose(y[image].numpy(), expected, atol=1e-12)
    assert torch.equal(query, mask_logits.flatten(2).argmax(1))


def test_masks_are_resized_before_the_softmax():
    class_logits, mask_logits = normal(1, 3, 4), normal(1, 3, 8, 12, seed=1)
    resized = functional.interpolate(mask_logits, (2, 3), mode="bilinear", align_corners=False)
    assert torch.equal(fused_map(class_logits, mask_logits, (2, 3))[0], fused_map(class_logits, resized, (2, 3))[0])


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-6)])
@pytest.mark.parametrize("scope", ["batch", "same_image", "cross_image"])
def test_the_loss_is_the_derived_one_on_the_drawn_negatives(dtype, tolerance, scope):
    weak, strong, y = unit(24, 8, dtype=dtype), unit(24, 8, seed=1, dtype=dtype), unit(24, 6, seed=2, dtype=dtype)
    image = torch.arange(3).repeat_interleave(8)
    found = contrast(weak, strong, y.abs(), image, temperature=0.2, num_negatives=5, negative_scope=scope)
    assert found.drawn.all()
    expected = derived_loss(weak.double().numpy(), strong.double().numpy(), found.negatives, 0.2)
    assert float(found.loss) == pytest.approx(expected, rel=tolerance)
    assert torch.allclose(found.positive, (weak * strong).sum(1))
    assert torch.allclose(found.negative[3, 1], weak[3] @ weak[found.negatives[3, 1]])
    same = image[found.negatives] == image[:, None]
    assert {"batch": same.any() and not same.all(), "same_image": same.all(), "cross_image": not same.any()}[scope]


def test_identical_predictions_weigh_0_and_disjoint_ones_1():
    y, _ = fused_map(*one_hot_prediction(torch.tensor([[[0, 0, 1]]]), queries=3), (1, 3))
    weights = debiased_weights(y[0], y[0])
    assert weights.tolist() == pytest.approx(torch.tensor([[0, 0, 1], [0, 0, 1], [1, 1, 0]]).double(), abs=1e-12)
    assert weights[0, 1] == 0.0  # exactly: it must never be drawn


@pytest.mark.parametrize(
    ("kind", "length"), [("uniform", 1), ("mask", 4), ("class", 3), ("fusion", 7)], ids=lambda value: str(value)
)
def test_a_sampler_is_a_choice_of_y_alone(kind, length):
    class_logits, mask_logits = normal(1, 4, 3), normal(1, 4, 2, 3, seed=1)
    y, query = fused_map(class_logits, mask_logits, (2, 3), kind)
    full, same_query = fused_map(class_logits, mask_logits, (2, 3))
    assert y.shape == (1, 6, length)
    assert torch.equal(query, same_query)
    parts = {"mask": full[..., :4], "class": full[..., 4:], "fusion": full}
    if kind == "uniform":
        assert torch.equal(debiased_weights(y[0], y[0]), torch.ones(6, 6).double())
    else:
        assert torch.allclose(y, functional.normalize(parts[kind], dim=-1))
    # The sampler itself does not know the choice: with the same y, all four draw the same.
    arguments = unit(6, 4), unit(6, 4, seed=1), full[0], torch.zeros(6, dtype=torch.int64)
    by_kind = contrast(*arguments, negatives=kind, num_negatives=2)
    assert torch.equal(by_kind.negatives, contrast(*arguments, num_negatives=2).negatives)


def test_negatives_are_drawn_in_proportion_to_the_weights_without_replacement():
    # The first pixel as the anchor, many times over; successive draws follow Plackett and Luce.
    weights = torch.tensor([0.1, 0.3, 0.6])
    angles = torch.cat([torch.zeros(1), torch.arccos(1.0 - weights)])
    pattern = torch.stack([angles.cos(), angles.sin()], 1)
    copies = 20_000
    torch.manual_seed(1)
    sampler = PixelContrast(PixelContrastConfig(num_negatives=2))
    noise = torch.empty(copies, 4).exponential_()
    negatives, drawn = sampler._draw(pattern, torch.zeros(4).long(), torch.zeros(copies).long(), noise)
    assert drawn.all()
    counts = torch.zeros(4, 4).index_put(tuple(negatives.T), torch.ones(copies), accumulate=True)
    assert counts[0].sum() == counts[:, 0].sum() == counts.diagonal().sum() == 0
    for a in range(3):
        for b in {0, 1, 2} - {a}:
            expected = float(weights[a] * weights[b] / (1.0 - weights[a]))
            spread = math.sqrt(expected * (1 - expected) / copies)
            assert counts[a + 1, b + 1] / copies == pytest.approx(expected, abs=4.5 * spread)


def test_equal_similarities_give_the_logarithm_of_the_number_of_candidates():
    same = torch.ones(50, 4).double() / 2
    found = contrast(same, same, unit(50, 5).abs(), torch.zeros(50).long(), num_negatives=20)
    assert float(found.loss) == pytest.approx(math.log(21), rel=1e-12)


def test_an_anchor_uses_the_candidates_that_it_has():
    # Two pixels of one instance and one of another: the twins have one candidate each, the third has two.
    y, query = fused_map(*one_hot_prediction(torch.tensor([[[0, 0, 1]]]), queries=2), (1, 3))
    same = torch.ones(3, 4).double() / 2
    found = contrast(same, same, y[0], torch.zeros(3).long(), num_negatives=200)
    assert found.drawn.sum(1).tolist() == [1, 1, 2]
    assert float(found.loss) == pytest.approx((2 * math.log(2) + math.log(3)) / 3, rel=1e-12)
    assert contrast_figures(found, query[0], query[0])["contrast_fnr_truth"] == 0


@pytest.mark.parametrize("scope", ["cross_image", "same_image"])
def test_without_any_candidate_the_loss_is_0_and_has_a_gradient(scope):
    weak = unit(3, 4).requires_grad_()
    image = torch.zeros(3) if scope == "cross_image" else torch.arange(3)
    found = contrast(weak, unit(3, 4, seed=1), unit(3, 5).abs(), image.long(), negative_scope=scope)
    assert float(found.loss.detach()) == 0.0
    assert not found.drawn.any()
    assert contrast_figures(found, torch.zeros(3).long(), torch.zeros(3).long()) == {}
    found.loss.backward()
    assert weak.grad is not None
    assert not weak.grad.any()


def test_without_any_pixel_the_loss_is_0_and_has_a_gradient():
    weak = torch.zeros(0, 4, requires_grad=True)
    found = contrast(weak, torch.zeros(0, 4), torch.zeros(0, 5), torch.zeros(0).long())
    found.loss.backward()
    assert float(found.loss.detach()) == 0.0
    assert contrast_figures(found, torch.zeros(0).long(), torch.zeros(0).long()) == {}


def test_with_true_masks_no_negative_is_false_and_with_random_ones_as_many_as_pixels_are_of_the_instance():
    instance = torch.arange(4).view(2, 2).repeat_interleave(6, 0).repeat_interleave(6, 1)[None]
    image, truth = torch.zeros(144).long(), instance.flatten()
    pixels = unit(144, 8), unit(144, 8, seed=1)
    y, query = fused_map(*one_hot_prediction(instance, queries=4), (12, 12))
    figures = contrast_figures(contrast(*pixels, y[0], image, num_negatives=40), query[0], truth)
    assert figures["contrast_fnr_truth"] == figures["contrast_fnr_pred"] == 0.0
    # Predictions that know nothing: each negative is of the anchor's instance as often as a pixel is, 35 of 143.
    y, query = fused_map(normal(1, 4, 3), 0.01 * normal(1, 4, 12, 12), (12, 12))
    figures = contrast_figures(contrast(*pixels, y[0], image, num_negatives=40), query[0], truth)
    assert float(figures["contrast_fnr_truth"]) == pytest.approx(35 / 143, abs=0.02)
    one_slot = torch.zeros(144).long()
    assert contrast_figures(contrast(*pixels, y[0], image), one_slot, truth)["contrast_fnr_pred"] == 1.0


def test_the_true_rate_counts_annotated_anchors_alone():
    instance = torch.tensor([0, 0, -1, -1])
    found = contrast(unit(4, 8), unit(4, 8, seed=1), torch.zeros(4, 1), torch.zeros(4).long(), num_negatives=3)
    assert contrast_figures(found, instance, instance)["contrast_fnr_truth"] == pytest.approx(1 / 3)
    assert "contrast_fnr_truth" not in contrast_figures(found, instance, torch.full((4,), -1))


def test_the_margin_is_the_difference_of_the_mean_similarities():
    weak, strong = unit(30, 8), unit(30, 8, seed=1)
    found = contrast(weak, strong, unit(30, 5).abs(), torch.zeros(30).long(), num_negatives=7)
    figures = contrast_figures(found, torch.zeros(30).long(), torch.zeros(30).long())
    positive = np.mean([float(weak[p] @ strong[p]) for p in range(30)])
    negative = np.mean([float(weak[p] @ weak[q]) for p in range(30) for q in found.negatives[p]])
    assert float(figures["contrast_margin"]) == pytest.approx(positive - negative, abs=1e-12)
    assert float(figures["contrast_negative"]) == pytest.approx(negative, abs=1e-12)


def test_the_margin_grows_with_the_weight():
    """Proposition 3.1 on free embeddings: one step of gradient descent, true negatives."""
    instance = torch.arange(4).repeat_interleave(9)
    y = functional.one_hot(instance, 4).double()
    start, noise = 2.0 + normal(36, 8), 0.3 * normal(36, 8, seed=1)  # all alike: there is a margin to win
    margins = []
    for weight in (0.0, 0.01, 0.1, 0.2, 0.5):
        values = start.clone().requires_grad_()

        def batch(values=values):
            weak, strong = functional.normalize(values, dim=-1), functional.normalize(values.detach() + noise, dim=-1)
            return contrast(weak, strong, y, torch.zeros(36).long(), num_negatives=12)

        (weight * batch().loss).backward()
        with torch.no_grad():
            values -= 5.0 * values.grad
        margins.append(float(contrast_figures(batch(), instance, instance)["contrast_margin"]))
    assert margins == sorted(margins)
    assert margins[-1] - margins[0] > 0.005
    # Theta(p * lambda): in the small, the gain is in proportion to the weight.
    assert (margins[2] - margins[0]) / (margins[1] - margins[0]) == pytest.approx(10, rel=0.15)


def test_the_memory_bound_changes_neither_the_value_nor_the_gradient():
    def run(memory_mb):
        weak = unit(600, 16, dtype=torch.float32).requires_grad_()
        y, image = unit(600, 9, seed=2, dtype=torch.float32).abs(), torch.arange(600) // 200
        found = contrast(weak, unit(600, 16, seed=1, dtype=torch.float32), y, image, memory_mb=memory_mb)
        found.loss.backward()
        return found, weak.grad

    assert PixelContrast(PixelContrastConfig(memory_mb=1))._rows(600) == 64
    (whole, whole_gradient), (chunked, chunked_gradient) = run(1024), run(1)
    assert torch.equal(whole.negatives, chunked.negatives)
    assert float(chunked.loss.detach()) == pytest.approx(float(whole.loss.detach()), rel=1e-6)
    assert torch.allclose(chunked_gradient, whole_gradient, atol=1e-7)


def test_the_fused_map_carries_no_gradient():
    class_logits, mask_logits = normal(1, 3, 4).requires_grad_(), normal(1, 3, 2, 2, seed=1).requires_grad_()
    assert not fused_map(class_logits, mask_logits, (2, 2))[0].requires_grad


def test_the_temperature_runs_from_start_to_end():
    config = TemperatureConfig()
    assert [temperature_at(config, step, 5) for step in range(5)] == pytest.approx([0.3, 0.2425, 0.185, 0.1275, 0.07])
    halfway = temperature_at(TemperatureConfig(schedule="exponential"), 2, 5)
    assert halfway == pytest.approx(math.sqrt(0.3 * 0.07))
    assert temperature_at(TemperatureConfig(schedule="constant"), 4, 5) == 0.3
    assert temperature_at(config, 0, 1) == 0.3
