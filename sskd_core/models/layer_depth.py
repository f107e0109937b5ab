"""How deep in an encoder a parameter sits, for learning rates that fall from the last layer to the first.

Counted as BEiT (Bao et al. 2022, arXiv 2106.08254) counts for a ViT and SimMIM (Xie et al. 2022, arXiv 2111.09886) for
a Swin: embeddings 0, block i of L (from 0) i + 1, what follows the blocks L + 1. A Swin's blocks are counted through
its stages, and the merging after a stage goes with the stage's last block.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import nn

_STAGED = "swin"
_PLAIN = ("dinov2", "vit")


def parameter_depths(encoder: Any) -> tuple[dict[int, int], int] | None:
    """Return the depth of each parameter by its `id`, and L + 1.

    Args:
        encoder: a network of `transformers`, or any other module.

    Returns:
        None when the encoder is neither a ViT nor a Swin.
    """
    kind = getattr(getattr(encoder, "config", None), "model_type", None)
    if kind == _STAGED:
        blocks = list(_staged_blocks(encoder))
    elif kind in _PLAIN:
        blocks = list(enumerate(_layers(encoder, encoder.config.num_hidden_layers), start=1))
    else:
        return None
    last = max(depth for depth, _ in blocks) + 1
    depths = {id(parameter): 0 if "embeddings." in name else last for name, parameter in encoder.named_parameters()}
    return depths | {id(parameter): depth for depth, block in blocks for parameter in block.parameters()}, last


def _staged_blocks(encoder: Any) -> Iterator[tuple[int, nn.Module]]:
    """Yield the depth of each block and each merging of a Swin."""
    depth = 0
    for stage in _layers(encoder, len(encoder.config.depths)):
        for block in stage.blocks:
            depth += 1
            yield depth, block
        if getattr(stage, "downsample", None) is not None:
            yield depth, stage.downsample


def _layers(encoder: nn.Module, length: int) -> Any:
    """Return the list of blocks or stages: the outermost one of its length, whatever the release calls it."""
    return next(item for item in encoder.modules() if isinstance(item, nn.ModuleList) and len(item) == length)
