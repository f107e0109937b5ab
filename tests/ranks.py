"""Real processes for tests: a Gloo group on loopback, and the values that its members left."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.multiprocessing
from safetensors.torch import load_file, save_file
from torch import Tensor

from sskd_core.distributed import group


def run_ranks(function: Callable[..., None], *arguments: Any, count: int = 2) -> None:
    """Call a function of an importable module in each process of a group; an error in one is an error here."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    torch.multiprocessing.spawn(_enter, (count, port, function, arguments), nprocs=count)


def _enter(rank: int, count: int, port: int, function: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(count)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "GLOO_SOCKET_IFNAME": "lo"}
    torch.set_num_threads(1)
    with group.joined(timeout_seconds=60):
        function(*arguments)


def leave(folder: Path, values: dict[str, Tensor]) -> None:
    """Leave tensors of this process for the test."""
    tensors = {name: value.detach().contiguous().clone() for name, value in values.items()}
    save_file(tensors, folder / f"{group.rank()}.safetensors")


def left(folder: Path, count: int = 2) -> list[dict[str, Tensor]]:
    """Return what each process left."""
    return [load_file(folder / f"{rank}.safetensors") for rank in range(count)]
