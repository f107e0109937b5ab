"""AdamW with Mask2Former's parameter groups, and a learning rate that is a pure function of the step."""

from __future__ import annotations

import math
from itertools import chain

import torch
from torch import nn

from sskd_core.config.train import OptimizerConfig
from sskd_core.errors import ConfigError
from sskd_core.models.layer_depth import parameter_depths
from sskd_core.models.protocol import SegmentationModel

_NORMS = (nn.LayerNorm, nn.GroupNorm, nn.BatchNorm2d)
_TOKENS = ("position_embeddings", "relative_position_bias_table", "cls_token", "mask_token")
"""Names of the embeddings of an encoder that are parameters of their own."""


def make_optimizer(
    model: SegmentationModel, config: OptimizerConfig, extra: nn.Module | None = None
) -> torch.optim.AdamW:
    """Group the parameters: the encoder at a reduced rate, norms and embeddings without decay.

    A group's `scale` is its share of the base learning rate. A multiplier of 0 freezes the encoder; parameters that the
    network itself has frozen are left out. `extra` is trained beside the network at the base rate.

    Raises:
        ConfigError: `layer_decay` is asked of an encoder that is neither a ViT nor a Swin.
    """
    scales = _scales(model, config)
    undecayed = {
        id(parameter)
        for module in model.modules()
        if isinstance(module, (*_NORMS, nn.Embedding))
        for parameter in module.parameters(recurse=False)
    } | {id(parameter) for name, parameter in model.named_parameters() if name.endswith(_TOKENS)}
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for parameter in chain(model.parameters(), () if extra is None else extra.parameters()):
        scale = scales.get(id(parameter), 1.0)
        if scale == 0.0:
            parameter.requires_grad_(False)
        if not parameter.requires_grad:
            continue
        decay = 0.0 if id(parameter) in undecayed else config.weight_decay
        groups.setdefault((scale, decay), []).append(parameter)
    return torch.optim.AdamW(
        [{"params": members, "weight_decay": decay, "scale": scale} for (scale, decay), members in groups.items()],
        lr=config.lr,
        fused=True,
    )


def _scales(model: SegmentationModel, config: OptimizerConfig) -> dict[int, float]:
    """Return the share of the base rate by `id` of the parameters that have another one than 1.

    With layer decay d, a parameter at depth k of L + 1 (see `parameter_depths`) has d ** (L + 1 - k) of the encoder's.
    """
    encoder = model.encoder_module()
    scales = {id(parameter): config.backbone_lr_multiplier for parameter in encoder.parameters()}
    if config.layer_decay != 1.0:
        found = parameter_depths(encoder)
        if found is None:
            raise ConfigError(
                f"optimizer.layer_decay {config.layer_decay} needs a ViT or Swin encoder; this one is a "
                f"{type(encoder).__name__}: leave it at 1"
            )
        depths, last = found
        scales = {key: scale * config.layer_decay ** (last - depths[key]) for key, scale in scales.items()}
    adapter = model.adapter_module()
    if adapter is not None:
        scales |= {id(parameter): config.adapter_lr_multiplier for parameter in adapter.parameters()}
    return scales


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
