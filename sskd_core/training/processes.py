"""The computation of a step in one of several processes.

`DistributedDataParallel` sums gradients while the backward pass is still running. It wants one module whose `forward`
is the whole computation, so the part of a step that a strategy computes is run inside of one, whatever it calls there:
the network twice, its encoder alone, a projector beside it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from sskd_core.data.sampling import generator
from sskd_core.distributed import group
from sskd_core.distributed.batch_norm import synchronise
from sskd_core.models.protocol import SegmentationModel
from sskd_core.strategies.base import Part, StepTerms, Validate

Computation = Callable[[Part], tuple[StepTerms, Tensor]]
"""From a part of a step to its terms and to the scalar whose gradient is wanted."""


def computation(model: SegmentationModel, extra: nn.Module | None) -> Computation:
    """Return how a part of a step is computed here.

    In a process that is alone it is simply called. In one of several its terms are shares, whose sums over all
    processes are returned for the log, and its gradients are summed as well; the values of the parameters are at first
    those of the leader.

    Args:
        model: the network; its batch normalisation becomes that of the whole batch.
        extra: what is trained beside it.
    """
    if group.world() == 1:
        return _alone
    synchronise(model)
    _draw_apart(model)
    return _Together(model, extra)


def led(validate: Validate) -> Validate:
    """Return a validation that the leader makes and tells the others, who wait for it."""

    def score(model: SegmentationModel) -> float:
        return float(group.told(repr(float(validate(model))) if group.leads() else None))

    return validate if group.world() == 1 else score


def _alone(part: Part) -> tuple[StepTerms, Tensor]:
    terms = part()
    return terms, torch.stack(list(terms.losses.values())).sum()


class _Whole(nn.Module):
    """What is trained, as one module that computes whatever it is handed."""

    def __init__(self, model: nn.Module, extra: nn.Module | None) -> None:
        super().__init__()
        self.model, self.extra = model, extra
        self.terms = StepTerms({})

    def forward(self, part: Part) -> dict[str, Tensor]:
        self.terms = part()
        return self.terms.losses


class _Together:
    """The computation of one of several processes."""

    def __init__(self, model: nn.Module, extra: nn.Module | None) -> None:
        self._whole = _Whole(model, extra)
        # A step may leave parameters out, such as those of a term that has nothing to compare.
        self._parallel = DistributedDataParallel(self._whole, find_unused_parameters=True)

    def __call__(self, part: Part) -> tuple[StepTerms, Tensor]:
        shares = self._parallel(part)
        summed = group.total(torch.stack([value.detach() for value in shares.values()]))
        terms = StepTerms(dict(zip(shares, summed.unbind(), strict=True)), self._whole.terms.figures)
        # Each process holds a share of the loss, and the mean that DDP takes of the gradients becomes their sum.
        return terms, torch.stack(list(shares.values())).sum() * group.world()


def _draw_apart(model: nn.Module) -> None:
    """Give the network's own random draws, such as drop path, to each process anew, and take no part in the others.

    The loss draws the same in all processes, so what comes before it must leave their generators alike.
    """
    states: list[tuple[Tensor, Tensor | None]] = []

    def before(module: nn.Module, *_: Any) -> None:
        if not module.training:
            return
        states.append((torch.get_rng_state(), torch.cuda.get_rng_state() if torch.cuda.is_available() else None))
        torch.manual_seed(int(generator(torch.initial_seed(), "process", group.rank()).integers(2**63 - 1)))

    def after(module: nn.Module, *_: Any) -> None:
        if not module.training:
            return
        cpu, cuda = states.pop()
        torch.set_rng_state(cpu)
        if cuda is not None:
            torch.cuda.set_rng_state(cuda)

    model.register_forward_pre_hook(before)
    model.register_forward_hook(after)
