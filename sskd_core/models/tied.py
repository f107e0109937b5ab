"""Parameters that a network holds under several names: its state names each once.

safetensors refuses tensors that share memory, and a second name says nothing that the first does not.
"""

from __future__ import annotations

from typing import Any

from torch import nn


def tied_names(module: nn.Module) -> dict[str, str]:
    """Return the later names of parameters that have several, each with the first name."""
    first: dict[int, str] = {}
    later: dict[str, str] = {}
    for name, parameter in module.named_parameters(remove_duplicate=False):
        known = first.setdefault(id(parameter), name)
        if known != name:
            later[name] = known
    return later


def name_once(module: nn.Module) -> None:
    """Leave the later names out of `module.state_dict()`, and do without them in `load_state_dict`."""
    module.register_state_dict_post_hook(_leave_out)
    module.register_load_state_dict_pre_hook(_fill_in)


def _leave_out(module: nn.Module, state: dict[str, Any], prefix: str, metadata: dict[str, Any]) -> None:
    for name in tied_names(module):
        state.pop(prefix + name, None)


def _fill_in(module: nn.Module, state: dict[str, Any], prefix: str, *rest: Any) -> None:
    for name, known in tied_names(module).items():
        if prefix + known in state:
            state[prefix + name] = state[prefix + known]
