"""AdamW with Mask2Former's parameter groups, and a learning rate that is a pure function of the step."""

from __future__ import annotations

import math
from itertools import chain

import torch
from torch import nn

from sskd_core.config.train import OptimizerConfig
from sskd_core.models.protocol import SegmentationModel

_NORMS = (nn.LayerNorm, nn.GroupNorm, nn.BatchNorm2d)
_TOKENS = ("position_embeddings", "relative_position_bias_table", "cls_token", "mask_token")
"""Names of the embeddings of an encoder that are parameters of their own."""


def make_optimizer(
    model: SegmentationModel, config: OptimizerConfig, extra: nn.Module | None = None
) -> torch.optim.AdamW:
    """Group the parameters: the encoder at a reduced rate, norms and embeddings without decay.

    A group's `scale` is its share of the base learning rate. A multiplier of 0 freezes the encoder. `extra` is trained
    beside the network at the base rate.
    """
    encoder = {id(parameter) for parameter in model.encoder_module().parameters()}
    undecayed = {
        id(parameter)
        for module in model.modules()
        if isinstance(module, (*_NORMS, nn.Embedding))
        for parameter in module.parameters(recurse=False)
    } | {id(parameter) for name, parameter in model.named_parameters() if name.endswith(_TOKENS)}
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for parameter in chain(model.parameters(), () if extra is None else extra.parameters()):
        scale = config.backbone_lr_multiplier if id(parameter) in encoder else 1.0
        if scale == 0.0:
            parameter.requires_grad_(False)
            continue
        decay = 0.0 if id(parameter) in undecayed else config.weight_decay
        groups.setdefault((scale, decay), []).append(parameter)
    return torch.optim.AdamW(
        [{"params": members, "weight_decay": decay, "scale": scale} for (scale, decay), members in groups.items()],
        lr=config.lr,
        fused=True,
    )


def learning_rate(config: OptimizerConfig, step: int, iterations: int) -> float:
    """Return the base learning rate of a step.

    Args:
        config: schedule and peak.
        step: counted from 0.
        iterations: length of the run.
    """
    if step < config.warmup_iterations:
        return config.lr * (step + 1) / config.warmup_iterations
    done = (step - config.warmup_iterations) / max(1, iterations - config.warmup_iterations)
    match config.schedule:
        case "poly":
            return config.lr * math.pow(1.0 - done, config.poly_power)
        case "cosine":
            return config.lr * 0.5 * (1.0 + math.cos(math.pi * done))
        case "step":
            return config.lr * math.pow(0.1, sum(step >= milestone for milestone in config.milestones))
        case "constant":
            return config.lr


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Give every group its share of the base rate."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["scale"]
