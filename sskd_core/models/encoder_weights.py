"""Weights of an encoder alone, as they are published: a backbone, a bare model or a whole classifier."""

from __future__ import annotations

import re

from torch import Tensor, nn
from transformers import PreTrainedModel

from sskd_core.models.published import to_installed_names

_HEAD = re.compile(r"(classifier|cls_classifier|distillation_classifier|pooler|fc)\.")
"""What a classifier has on top; no backbone has it."""
_OWN = re.compile(r"hidden_states_norms\.")
"""What a Swin has as a backbone only: norms of each stage's output, which start as the identity up to scale."""


_COUNTER = ".num_batches_tracked"
"""Of batch normalisation; a frozen one has none."""


def encoder_tensors(encoder: nn.Module, published: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the published tensors by the encoder's own names, for `models.weights.copy_into` to judge.

    Names are those of `transformers` for its networks, and torchvision's for others. The classifier is left out. The
    norms that only a backbone has keep the encoder's values where nothing is published.
    """
    own = encoder.state_dict()
    if isinstance(encoder, PreTrainedModel):
        renamed = to_installed_names(type(encoder), encoder.config, published)
    else:
        renamed = {name: item for name, item in published.items() if name in own or not name.endswith(_COUNTER)}
    kept = {name: tensor for name, tensor in renamed.items() if not _HEAD.match(name)}
    return {name: value for name, value in own.items() if _OWN.match(name)} | kept
