"""The Mask2Former family behind our forward signature, with the backbones that Guided Distillation compares.

With the deformable pixel decoder it is a teacher's network, not the student that we recommend for export.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from sskd_core.config.model import ModelConfig
from sskd_core.models.architecture import explained
from sskd_core.models.mask2former_arch import FAMILY, network_config, read_arch
from sskd_core.models.mask2former_network import Mask2FormerNetwork
from sskd_core.models.protocol import QueryOutput, SegmentationModel
from sskd_core.models.resize import to_multiple
from sskd_core.models.vit_pyramid import VitPyramid

_INPUT_MULTIPLE = 32


class Mask2Former(SegmentationModel):
    """Mask2Former (Cheng et al. 2022, arXiv 2112.01527).

    Input sides that are no multiple of 32 are resized bilinearly to the next one inside; mask logits refer to the whole
    input either way.

    Args:
        config: `arch` holds the fields of `Mask2FormerArch`.
        classes: class names.

    Raises:
        ConfigError: unknown architecture key or impossible value.
    """

    training_keys = ("freeze_backbone", "freeze_batch_norm")

    @classmethod
    def check_arch(cls, arch: Mapping[str, Any]) -> None:
        """Refuse an `arch` that is not understood; whether the training keys fit is judged with that of the weights."""
        read_arch({key: value for key, value in arch.items() if key not in cls.training_keys})

    def __init__(self, config: ModelConfig, classes: list[str]) -> None:
        super().__init__()
        self.config = config
        self.classes = classes
        self.arch = read_arch(config.arch)
        settings = network_config(self.arch, classes)
        with explained(FAMILY):
            self.network = Mask2FormerNetwork(settings, self.arch)
        for module in self._frozen():
            module.requires_grad_(False)

    def forward(self, pixels: Tensor) -> QueryOutput:
        """Predict; see `SegmentationModel.forward`."""
        output: QueryOutput = self.network(self.encode(pixels))
        return output

    def encode(self, pixels: Tensor) -> list[Tensor]:
        """Return the maps of the backbone; see `SegmentationModel.encode`."""
        return self.network.pixel_level.encode(to_multiple(pixels, _INPUT_MULTIPLE))

    def encoder_module(self) -> nn.Module:
        """Return the backbone, for weights that hold an encoder alone."""
        encoder = self.network.pixel_level.encoder
        backbone: nn.Module = encoder.vit if isinstance(encoder, VitPyramid) else encoder
        return backbone

    def adapter_module(self) -> nn.Module | None:
        """Return the projections of a plain ViT's pyramid."""
        encoder = self.network.pixel_level.encoder
        return encoder.projections if isinstance(encoder, VitPyramid) else None

    def train(self, mode: bool = True) -> Mask2Former:
        """Set the mode; what is frozen stays in eval mode."""
        super().train(mode)
        for module in self._frozen():
            module.eval()
        return self

    def _frozen(self) -> list[nn.Module]:
        if self.arch.freeze_backbone:
            return [self.encoder_module()]
        if self.arch.freeze_batch_norm:
            return [module for module in self.encoder_module().modules() if isinstance(module, _BatchNorm)]
        return []
