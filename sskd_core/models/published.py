"""Weights as `transformers` publishes them.

Their tensors keep the names of the release they were made with, while the modules of a newer one have moved on. Its own
loader knows every renaming, so it is asked, and `models.weights.copy_into` judges what comes out as it does for ours.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.utils import logging


def to_installed_names(
    network: type[PreTrainedModel], config: PreTrainedConfig, tensors: dict[str, Tensor]
) -> dict[str, Tensor]:
    """Rename published tensors to the names of the installed `transformers`.

    Args:
        network: the class whose weights they are.
        config: its configuration.
        tensors: as read from the published files.

    Returns:
        Tensors by the names of `network`. One that is missing there is missing here too; one of another shape, or that
        `network` does not know, stands there without values.
    """
    with torch.random.fork_rng(devices=[]), _quiet():
        loaded, report = network.from_pretrained(
            None, config=config, state_dict=tensors, output_loading_info=True, ignore_mismatched_sizes=True
        )
    state: dict[str, Tensor] = loaded.state_dict()
    renamed = {name: tensor for name, tensor in state.items() if name not in report["missing_keys"]}
    renamed |= {name: torch.empty(shape, device="meta") for name, shape, _ in report["mismatched_keys"]}
    return renamed | {name: torch.empty(0, device="meta") for name in report["unexpected_keys"]}


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the loader's table and bar from the terminal: a misfit becomes an error of one line."""
    verbosity, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bar:
            logging.enable_progress_bar()
