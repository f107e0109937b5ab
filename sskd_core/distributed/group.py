"""The process group of a training: this process's place in it, and sums over all of it.

A process that `torchrun` did not start is alone: every function then returns what it was given, so that losses and
loop are written once. What is summed never averages: each process holds its share of a quantity of the whole batch.
"""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from sskd_core.errors import ConfigError, UserError

_of_graphs: dist.ProcessGroup | None = None


@dataclass(frozen=True)
class Share:
    """The rows of this process among the rows of all, in the order of the ranks.

    Attributes:
        first: number of rows of the processes before this one.
        count: its own rows.
        total: rows of all.
    """

    first: int
    count: int
    total: int


def world() -> int:
    """Return the number of processes; 1 outside of a group."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """Return the number of this process, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def leads() -> bool:
    """Return whether this process is the one that writes."""
    return rank() == 0


@contextmanager
def joined(timeout_seconds: float) -> Iterator[None]:
    """Be a member of the group that torchrun's variables describe: NCCL with a GPU a process, else Gloo.

    Args:
        timeout_seconds: how long a process waits for the others before it gives up.

    Raises:
        UserError: there is no GPU for this process, or the others cannot be reached.
    """
    cuda = torch.cuda.is_available()
    if cuda:
        local, seen = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
        if local >= seen:
            raise UserError(f"process {local} of this machine has no GPU: CUDA sees {seen}; start as many processes")
        torch.cuda.set_device(local)
    global _of_graphs
    timeout = dt.timedelta(seconds=timeout_seconds)
    try:
        dist.init_process_group("nccl" if cuda else "gloo", timeout=timeout)
        second = dist.new_group(timeout=timeout)
    except (dist.DistError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"the processes of the training cannot reach each other: {reason}") from None
    assert isinstance(second, dist.ProcessGroup)
    _of_graphs = second
    # Not after an error: the others may wait for this process, and its end is what they are told by.
    yield
    _of_graphs = None
    dist.destroy_process_group()


def add_in_graph(value: Tensor) -> None:
    """Sum over all processes in place, from within a forward or backward pass.

    A group of its own: DDP sums gradients during the backward pass too, and the order of the two may differ between
    processes.
    """
    dist.all_reduce(value, group=_of_graphs)


def own_part(batch: int, name: str) -> slice:
    """Return which places of a batch of all processes this one takes.

    Raises:
        ConfigError: the batch cannot be divided.
    """
    size, left = divmod(batch, world())
    if left or not size:
        fitting = [str(count) for count in range(1, batch + 1) if batch % count == 0]
        raise ConfigError(
            f"{name} of {batch} images a step cannot be divided among {world()} processes; "
            f"start {' or '.join(fitting)}, or choose another batch"
        )
    return slice(rank() * size, (rank() + 1) * size)


def total(value: Tensor) -> Tensor:
    """Return the sum over all processes, without a gradient path."""
    if world() == 1:
        return value
    summed = value.detach().clone()
    dist.all_reduce(summed)
    return summed


def share(count: int) -> Share:
    """Return where the `count` rows of this process lie among those of all."""
    counts = _counts([count]) if world() > 1 else [[count]]
    return Share(sum(item for (item,) in counts[: rank()]), count, sum(item for (item,) in counts))


def all_counts(counts: Sequence[int]) -> tuple[list[int], int]:
    """Return the counts of all processes, which have equally many, in order of rank, and the place of the own ones."""
    if world() == 1:
        return list(counts), 0
    return [item for part in _counts(counts) for item in part], rank() * len(counts)


def gathered(rows: Tensor) -> Tensor:
    """Return the rows of all processes, [n, ...], in the order of the ranks.

    The gradient of a row is summed over the processes: each of them may compute a share of the loss from it.
    """
    result: Tensor = rows if world() == 1 else _Gather.apply(rows)
    return result


def agreed(flag: bool) -> bool:
    """Return whether the flag is set in any process."""
    return flag if world() == 1 else bool(total(torch.tensor(float(flag), device=_device())) > 0)


def told(text: str | None) -> str:
    """Return the text of the leader; the others pass None and wait for it."""
    if world() == 1:
        assert text is not None
        return text
    data = (text or "").encode()
    size = torch.tensor([len(data)], device=_device())
    dist.broadcast(size, 0)
    letters = torch.tensor(list(data), dtype=torch.uint8, device=_device())
    if not leads():
        letters = torch.zeros(int(size), dtype=torch.uint8, device=_device())
    dist.broadcast(letters, 0)
    return bytes(letters.tolist()).decode()


def means(figures: Mapping[str, float]) -> dict[str, float]:
    """Return the mean of each figure over the processes that have it; what a figure is called, all agree on."""
    if world() == 1:
        return dict(figures)
    names = _union(figures)
    values = torch.tensor([[figures.get(name, 0.0), float(name in figures)] for name in names], dtype=torch.float64)
    summed = total(values.to(_device())).tolist()
    return {name: value / count for name, (value, count) in zip(names, summed, strict=True)}


def _union(figures: Mapping[str, float]) -> list[str]:
    """Return the names that any process has, sorted."""
    lines = "\n".join(figures).encode()
    letters = torch.tensor(list(lines), dtype=torch.uint8, device=_device())
    parts = _gather(letters)
    return sorted({name for part in parts for name in bytes(part.tolist()).decode().split("\n") if name})


def _device() -> torch.device:
    return torch.device("cuda" if dist.get_backend() == "nccl" else "cpu")


def _counts(counts: Sequence[int]) -> list[list[int]]:
    own = torch.tensor(counts, device=_device())
    parts = [torch.empty_like(own) for _ in range(world())]
    dist.all_gather(parts, own)
    return [part.tolist() for part in parts]


def _gather(rows: Tensor) -> list[Tensor]:
    """Return the rows of each process; they may differ in number, so all are padded to the longest."""
    counts = [item for (item,) in _counts([len(rows)])]
    padded = rows.new_zeros((max(counts), *rows.shape[1:]))
    padded[: len(rows)] = rows
    parts = [torch.empty_like(padded) for _ in counts]
    dist.all_gather(parts, padded)
    return [part[:count] for part, count in zip(parts, counts, strict=True)]


class _Gather(torch.autograd.Function):
    """Rows of all processes; the way back adds what each process found for a row."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        parts = _gather(rows)
        first = sum(len(part) for part in parts[: rank()])
        ctx.own = slice(first, first + len(rows))
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        summed = gradient.contiguous().clone()
        add_in_graph(summed)
        return summed[ctx.own]
