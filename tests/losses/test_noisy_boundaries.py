"""The mask loss of Noisy Boundaries against a re-derivation in float64 with explicit loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sskd_core.losses.noisy_boundaries import boundary_map, boundary_mask_loss


def masks(count: int = 3, side: int = 6, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(seed)
    logits = 2.0 * torch.randn(count, side, side, generator=random)
    return logits, (torch.rand(count, side, side, generator=random) > 0.5).float()


def derived_map(logits: np.ndarray) -> np.ndarray:
    """|8 p - the eight neighbours|, 0 beyond the border, over its mean, times 3."""
    probability = 1.0 / (1.0 + np.exp(-logits.astype(np.float64)))
    found = np.zeros_like(probability)
    for index, plane in enumerate(probability):
        for y in range(plane.shape[0]):
            for x in range(plane.shape[1]):
                window = plane[max(0, y - 1) : y + 2, max(0, x - 1) : x + 2]
                found[index, y, x] = abs(9.0 * plane[y, x] - window.sum())
        found[index] *= 3.0 / found[index].mean()
    return found


def derived_entropy(logits: np.ndarray, truth: np.ndarray) -> np.ndarray:
    probability = 1.0 / (1.0 + np.exp(-logits.astype(np.float64)))
    return -(truth * np.log(probability) + (1.0 - truth) * np.log(1.0 - probability))


def test_the_map_is_the_scaled_laplacian():
    logits, _ = masks()
    assert np.allclose(boundary_map(logits).numpy(), derived_map(logits.numpy()), atol=1e-4)


def test_the_map_has_a_mean_of_three_over_each_mask_and_peaks_at_the_edge():
    logits = torch.full((1, 8, 8), -9.0)
    logits[0, 2:6, 2:6] = 9.0
    weights = boundary_map(logits)[0]
    assert weights.mean().item() == pytest.approx(3.0, abs=1e-4)
    assert weights[3, 3].item() == pytest.approx(0.0, abs=1e-2)  # inside
    assert weights[0, 0].item() == pytest.approx(0.0, abs=1e-2)  # far outside
    assert weights[2, 2] > 9.0


def test_a_mask_without_an_edge_has_three_everywhere():
    weights = boundary_map(torch.full((2, 4, 4), -500.0))
    assert torch.equal(weights, torch.full((2, 4, 4), 3.0))


def test_per_pixel_weights_each_cell():
    logits, truth = masks()
    expected = (derived_entropy(logits.numpy(), truth.numpy()) * derived_map(logits.numpy())).mean()
    assert boundary_mask_loss(logits, truth, "per_pixel").item() == pytest.approx(expected, rel=1e-5)


def test_the_released_scalar_form_is_three_times_the_plain_loss():
    logits, truth = masks()
    plain = derived_entropy(logits.numpy(), truth.numpy()).mean()
    assert boundary_mask_loss(logits, truth, "none").item() == pytest.approx(plain, rel=1e-5)
    assert boundary_mask_loss(logits, truth, "scalar").item() == pytest.approx(3.0 * plain, rel=1e-5)
    assert boundary_mask_loss(logits, truth, "per_pixel").item() != pytest.approx(3.0 * plain, rel=1e-2)


def test_the_map_carries_no_gradient():
    logits, truth = masks()
    logits.requires_grad_()
    boundary_mask_loss(logits, truth, "per_pixel").backward()
    weights = torch.from_numpy(derived_map(logits.detach().numpy()))
    expected = weights * (logits.detach().double().sigmoid() - truth) / truth.numel()
    assert torch.allclose(logits.grad.double(), expected, atol=1e-6)


@pytest.mark.parametrize("form", ["none", "per_pixel", "scalar"])
def test_without_a_region_the_loss_is_zero_with_a_gradient_path(form):
    logits = torch.zeros(0, 4, 4, requires_grad=True)
    loss = boundary_mask_loss(logits, torch.zeros(0, 4, 4), form)
    loss.backward()
    assert loss.item() == 0.0
