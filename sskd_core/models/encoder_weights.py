"""Weights of an encoder alone, as `transformers` publishes them: a backbone, a bare model or a whole classifier."""

from __future__ import annotations

import re

from torch import Tensor
from transformers import PreTrainedModel

from sskd_core.models.published import to_installed_names

_HEAD = re.compile(r"(classifier|cls_classifier|distillation_classifier|pooler)\.")
"""What a classifier has on top; no backbone has it."""
_OWN = re.compile(r"hidden_states_norms\.")
"""What a Swin has as a backbone only: norms of each stage's output, which start as the identity up to scale."""


def encoder_tensors(encoder: PreTrainedModel, published: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the published tensors by the encoder's own names, for `models.weights.copy_into` to judge.

    The classifier is left out. The norms that only a backbone has keep the encoder's values where nothing is published.
    """
    renamed = to_installed_names(type(encoder), encoder.config, published)
    kept = {name: tensor for name, tensor in renamed.items() if not _HEAD.match(name)}
    return {name: value for name, value in encoder.state_dict().items() if _OWN.match(name)} | kept
