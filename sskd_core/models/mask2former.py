"""The Mask2Former family: the network of `transformers`, behind our forward signature.

`arch` is a `Mask2FormerConfig` as a mapping (`backbone_config` with its `model_type` included), so any official
configuration or checkpoint folder fits. It uses deformable attention in the pixel decoder: a teacher's network, not
the student that we recommend for export.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from transformers import AutoConfig, Mask2FormerConfig
from transformers.models.mask2former.modeling_mask2former import Mask2FormerForUniversalSegmentation

from sskd_core.config.model import ModelConfig
from sskd_core.errors import ConfigError
from sskd_core.models.architecture import explained
from sskd_core.models.protocol import QueryOutput, SegmentationModel

_INPUT_MULTIPLE = 32


class Mask2Former(SegmentationModel):
    """Mask2Former (Cheng et al. 2022, arXiv 2112.01527).

    Args:
        config: `arch` as above; `input` must be a multiple of 32 on both sides.
        classes: class names.

    Raises:
        ConfigError: the architecture is not a Mask2Former's, or the input size does not fit.
    """

    def __init__(self, config: ModelConfig, classes: list[str]) -> None:
        super().__init__()
        if config.input.height % _INPUT_MULTIPLE or config.input.width % _INPUT_MULTIPLE:
            raise ConfigError(
                f"family mask2former: input {config.input.height} x {config.input.width} must be a multiple of "
                f"{_INPUT_MULTIPLE} on both sides"
            )
        self.config = config
        self.classes = classes
        settings = network_config(config.arch, classes)
        with explained("family mask2former"):
            self.network = Mask2FormerForUniversalSegmentation(settings)
        del self.network.criterion  # the objective is the engine's

    def forward(self, pixels: Tensor) -> QueryOutput:
        """Predict; see `SegmentationModel.forward`."""
        output = self.network.model(pixel_values=pixels, output_hidden_states=True)
        states = output.transformer_decoder_intermediate_states
        return QueryOutput(
            class_logits=[self.network.class_predictor(state.transpose(0, 1)) for state in states],
            mask_logits=list(output.masks_queries_logits),
            encoder_levels=list(output.encoder_hidden_states),
        )

    def encode(self, pixels: Tensor) -> list[Tensor]:
        """Return the maps of the backbone; see `SegmentationModel.encode`."""
        return list(self.network.model.pixel_level_module.encoder(pixels).feature_maps)

    def encoder_module(self) -> nn.Module:
        """Return the backbone, for weights that hold an encoder alone."""
        encoder: nn.Module = self.network.model.pixel_level_module.encoder
        return encoder


def network_config(arch: dict[str, Any], classes: list[str]) -> Mask2FormerConfig:
    """Return the configuration of the network inside.

    Raises:
        ConfigError: the architecture is not a Mask2Former's.
    """
    values = {key: value for key, value in arch.items() if key not in ("id2label", "label2id", "num_labels")}
    backbone = values.pop("backbone_config", None)
    labels = dict(enumerate(classes))
    with explained("family mask2former"):
        if isinstance(backbone, dict):
            backbone = dict(backbone)
            backbone = AutoConfig.for_model(backbone.pop("model_type"), **backbone)
        return Mask2FormerConfig(
            backbone_config=backbone,
            id2label=labels,
            label2id={name: index for index, name in labels.items()},
            **values,
        )
