"""Batch normalisation over the images of all processes.

`torch.nn.SyncBatchNorm` does the same on GPUs alone. The statistics are computed in two passes, as the mean first and
then the squared distances to it, and in single precision at least.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from sskd_core.distributed import group


def synchronise(model: nn.Module) -> None:
    """Let the batch normalisation of a network see the whole batch; parameters, buffers and names stay.

    In a process that is alone the network stays as it is.
    """
    if group.world() == 1:
        return
    for module in model.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = SynchronisedBatchNorm2d


class SynchronisedBatchNorm2d(nn.BatchNorm2d):
    """`nn.BatchNorm2d` whose batch, in training, is that of all processes."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalise [B, C, H, W]."""
        if not self.training:
            return super().forward(input)
        result, mean, variance, count = _Normalise.apply(input, self.weight, self.bias, self.eps)
        if self.track_running_stats:
            self._remember(mean, variance, count)
        normalised: Tensor = result
        return normalised

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor, count: Tensor) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        momentum = self.momentum if self.momentum is not None else 1.0 / float(self.num_batches_tracked)
        unbiased = variance * (count / (count - 1).clamp_min(1))
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), momentum)
        self.running_var.lerp_(unbiased.to(self.running_var.dtype), momentum)


class _Normalise(torch.autograd.Function):
    """The values and the gradient of Ioffe & Szegedy 2015 (arXiv 1502.03167), with sums over all processes."""

    @staticmethod
    def forward(
        ctx: Any, values: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        exact = values.to(torch.promote_types(values.dtype, torch.float32))
        sums = torch.cat([_sums(exact), exact.new_tensor([exact.numel() // exact.shape[1]])])
        group.add_in_graph(sums)
        count, mean = sums[-1], sums[:-1] / sums[-1]
        distances = _sums((exact - _wide(mean)) ** 2)
        group.add_in_graph(distances)
        variance = distances / count
        scale = (variance + eps).rsqrt()
        ctx.save_for_backward(values, weight, mean, scale, count)
        ctx.mark_non_differentiable(mean, variance, count)
        result = (exact - _wide(mean)) * _wide(scale)
        if weight is not None and bias is not None:
            result = result * _wide(weight) + _wide(bias)
        return result.to(values.dtype), mean, variance, count

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, *_: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None, None]:
        values, weight, mean, scale, count = ctx.saved_tensors
        exact = gradient.to(mean.dtype)
        unit = (values.to(mean.dtype) - _wide(mean)) * _wide(scale)
        own = torch.cat([_sums(exact), _sums(exact * unit)])
        summed = own.clone()
        group.add_in_graph(summed)
        of_bias, of_weight = (_wide(part / count) for part in summed.chunk(2))
        factor = scale if weight is None else scale * weight
        back = (exact - of_bias - unit * of_weight) * _wide(factor)
        if weight is None:
            return back.to(values.dtype), None, None, None
        # Of the parameters only the own share: whoever adds the processes' gradients adds these too.
        bias_gradient, weight_gradient = own.chunk(2)
        return back.to(values.dtype), weight_gradient.to(weight.dtype), bias_gradient.to(weight.dtype), None


def _sums(values: Tensor) -> Tensor:
    """Return the sum of each channel of [B, C, H, W]."""
    return values.sum((0, 2, 3))


def _wide(channels: Tensor) -> Tensor:
    return channels[:, None, None]
