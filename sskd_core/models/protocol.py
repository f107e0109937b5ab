"""What the engine asks of a network.

Shape letters: B images, Q queries, C classes, H x W input, h x w mask logits, E encoder channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from sskd_core.config.model import InputConfig, ModelConfig
from sskd_core.data.records import Instance

Image = NDArray[np.uint8]
"""An RGB image, [height, width, 3]."""


@dataclass
class QueryOutput:
    """The predictions of a query-based network at every supervised depth; the last is the final one.

    Attributes:
        class_logits: each [B, Q, C+1]; index C is "no object".
        mask_logits: each [B, Q, h, w].
        encoder_levels: of the encoder, finest first, each [B, E_i, h_i, w_i]; where a term over features attaches.
    """

    class_logits: list[Tensor]
    mask_logits: list[Tensor]
    encoder_levels: list[Tensor]

    def rows(self, part: slice) -> QueryOutput:
        """Return the predictions for some images of the batch."""
        return QueryOutput(
            class_logits=[item[part] for item in self.class_logits],
            mask_logits=[item[part] for item in self.mask_logits],
            encoder_levels=[item[part] for item in self.encoder_levels],
        )


class SegmentationModel(nn.Module):
    """Base of every family: a network from normalised pixels to queries.

    Attributes:
        config: what it was built from.
        classes: class names, in index order.
        assets: files by name that belong beside its weights, such as a tokenizer.
        training_keys: keys of `arch` that say how it trains and not what it is; a run's own hold for any weights.
    """

    config: ModelConfig
    classes: list[str]
    assets: Mapping[str, bytes] = MappingProxyType({})
    training_keys: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def check_arch(cls, arch: Mapping[str, Any]) -> None:
        """Refuse an `arch` that the family does not understand, also where weights will overrule it.

        Raises:
            ConfigError: unknown key, with the closest one named, or impossible value.
        """
        raise NotImplementedError

    @property
    def input(self) -> InputConfig:
        """The input size and normalisation."""
        return self.config.input

    def use_assets(self, files: Mapping[str, bytes], where: str) -> None:
        """Take from the files beside the weights what the family needs.

        Args:
            files: by name.
            where: they come from, for messages.
        """

    def forward(self, pixels: Tensor) -> QueryOutput:
        """Predict.

        Args:
            pixels: [B, 3, H, W], normalised with `input.mean` and `input.std`.
        """
        raise NotImplementedError

    def encode(self, pixels: Tensor) -> list[Tensor]:
        """Return the `encoder_levels` of `forward` without the work of the decoder.

        Args:
            pixels: [B, 3, H, W], normalised.
        """
        raise NotImplementedError

    def encoder_module(self) -> nn.Module:
        """Return the encoder: it trains at the backbone's learning rate, and weights may hold it alone."""
        raise NotImplementedError

    def adapter_module(self) -> nn.Module | None:
        """Return what joins the encoder to the decoder and is not part of encoder weights, if anything."""
        return None


@runtime_checkable
class Teacher(Protocol):
    """Anything that can label images."""

    classes: list[str]

    def predict(self, images: list[Image]) -> list[list[Instance]]:
        """Return the instances of each image, best score first, masks at the image's own size."""
        ...
