"""The two mask heads."""

from __future__ import annotations

import torch
from torch import nn

from sskd_core.models.mask_head import NoiseTolerantMaskHead, StandardMaskHead


def features() -> torch.Tensor:
    return torch.randn(5, 8, 14, 14, generator=torch.Generator().manual_seed(0))


def kinds(module: nn.Module, kind: type[nn.Module]) -> list[tuple[int, int, int]]:
    """Return (in, out, kernel) of every layer of a kind, in order."""
    return [
        (item.in_channels, item.out_channels, item.kernel_size[0])
        for item in module.modules()
        if isinstance(item, kind)
    ]


def test_the_standard_head_predicts_at_28():
    logits = StandardMaskHead(8, 16, 3)(features())
    assert logits.fine.shape == (5, 3, 28, 28)
    assert logits.coarse is None


def test_the_noise_tolerant_head_has_the_paper_s_layers():
    head = NoiseTolerantMaskHead(8, 16, 3)
    assert kinds(head.shared, nn.Conv2d) == [(8, 16, 3), (16, 16, 3), (16, 16, 3)]
    assert kinds(head.fine, nn.Conv2d) == [(16, 16, 3), (16, 3, 3)]
    assert kinds(head.fine, nn.ConvTranspose2d) == [(16, 16, 2)]
    assert kinds(head.coarse, nn.Conv2d) == [(16, 16, 3), (16, 16, 3), (16, 3, 1)]
    assert kinds(head.enlarge, nn.ConvTranspose2d) == [(3, 3, 2)]
    assert kinds(head.fuse, nn.Conv2d) == [(6, 3, 1)]
    logits = head(features())
    assert logits.fine.shape == (5, 3, 28, 28)
    assert logits.coarse.shape == (5, 3, 14, 14)


def test_the_final_mask_is_made_of_both_branches():
    head = NoiseTolerantMaskHead(8, 16, 3)
    with torch.no_grad():
        logits = head(features())
        shared = head.shared(features())
        both = torch.cat([head.fine(shared), head.enlarge(head.coarse(shared))], 1)
        assert torch.allclose(logits.fine, nn.functional.conv2d(both, head.fuse.weight, head.fuse.bias), atol=1e-6)
    logits = head(features())
    logits.fine.sum().backward()
    assert all(parameter.grad is not None for parameter in head.parameters())


def test_a_head_without_a_region_answers():
    for head in (StandardMaskHead(8, 16, 3), NoiseTolerantMaskHead(8, 16, 3)):
        assert head(features()[:0]).fine.shape == (0, 3, 28, 28)
