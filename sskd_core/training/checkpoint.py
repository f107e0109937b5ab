"""Checkpoints: everything that a run needs to go on, as safetensors with a JSON header, in one object.

One object, because a put is atomic: a reader sees the old checkpoint or the new one and never a mixture. There is no
generator state in it; every draw of a step is seeded from (seed, step).
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, field
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from sskd_core.storage.store import ObjectStore

log = logging.getLogger(__name__)
Curves = dict[str, list[tuple[int, float]]]


@dataclass
class Progression:
    """Where a run stands.

    Attributes:
        step: finished iterations.
        best_step: iteration of the best validation so far, or None.
        best_score: its score.
        curves: logged series, name -> (step, value).
    """

    step: int = 0
    best_step: int | None = None
    best_score: float = -1.0
    curves: Curves = field(default_factory=dict)


def pack(modules: dict[str, nn.Module], optimizer: torch.optim.Optimizer, state: Progression) -> bytes:
    """Encode a checkpoint.

    Args:
        modules: by the name under which `unpack` will find them.
        optimizer: its tensors are stored by parameter number.
        state: goes into the header.
    """
    tensors: dict[str, Tensor] = {}
    for name, module in modules.items():
        tensors |= {f"{name}/{key}": value.detach().cpu().contiguous() for key, value in module.state_dict().items()}
    for number, slots in optimizer.state_dict()["state"].items():
        for slot, value in slots.items():
            tensors[f"optimizer/{number}/{slot}"] = value.detach().cpu().contiguous()
    header = {
        "step": state.step,
        "best_step": state.best_step,
        "best_score": state.best_score,
        "curves": state.curves,
    }
    return save({name: tensor.clone() for name, tensor in tensors.items()}, {"progression": json.dumps(header)})


def unpack(data: bytes, modules: dict[str, nn.Module], optimizer: torch.optim.Optimizer) -> Progression:
    """Restore modules and optimiser in place and return where the run stands."""
    tensors = load(data)
    # Read before anything is changed, so that a damaged checkpoint leaves the run as it was.
    header = json.loads(_header(data)["progression"])
    for name, module in modules.items():
        prefix = f"{name}/"
        module.load_state_dict(
            {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
        )
    slots: dict[int, dict[str, Any]] = {}
    for key, value in tensors.items():
        if key.startswith("optimizer/"):
            _, number, slot = key.split("/")
            slots.setdefault(int(number), {})[slot] = value
    optimizer.load_state_dict({"state": slots, "param_groups": optimizer.state_dict()["param_groups"]})
    curves = {name: [(int(step), float(value)) for step, value in points] for name, points in header["curves"].items()}
    return Progression(header["step"], header["best_step"], header["best_score"], curves)


def _header(data: bytes) -> dict[str, str]:
    size = int.from_bytes(data[:8], "little")
    metadata: dict[str, str] = json.loads(data[8 : 8 + size])["__metadata__"]
    return metadata


class CheckpointStore:
    """The two objects of a run: the latest state, and the weights of the best validation.

    Args:
        store: where.
        prefix: the stage's prefix.
    """

    def __init__(self, store: ObjectStore, prefix: str) -> None:
        self._store = store
        self._latest = f"{prefix}/checkpoint/latest.safetensors"
        self._best = f"{prefix}/checkpoint/best.safetensors"

    def save(self, modules: dict[str, nn.Module], optimizer: torch.optim.Optimizer, state: Progression) -> None:
        """Replace the latest checkpoint."""
        self._store.put(self._latest, pack(modules, optimizer, state))

    def restore(self, modules: dict[str, nn.Module], optimizer: torch.optim.Optimizer) -> Progression:
        """Restore the latest checkpoint, or return a fresh start when there is none that can be read."""
        data = self._store.get_if_exists(self._latest)
        if data is None:
            return Progression()
        try:
            return unpack(data, modules, optimizer)
        except (SafetensorError, ValueError, KeyError) as error:
            log.warning("checkpoint %s is not readable (%s); starting from the beginning", self._latest, error)
            return Progression()

    def save_best(self, module: nn.Module) -> None:
        """Keep the weights of the best validation."""
        tensors = {key: value.detach().cpu().contiguous() for key, value in module.state_dict().items()}
        self._store.put(self._best, save(tensors))

    def load_best(self, module: nn.Module) -> None:
        """Put the weights of the best validation back."""
        module.load_state_dict(load(self._store.get(self._best)))

    def discard(self) -> None:
        """Delete both objects, once the stage's result is committed."""
        self._store.delete(self._latest)
        self._store.delete(self._best)
