"""MM-Grounding-DINO as a detector of classes: several prompts share one pass of its image backbone.

Shape letters: B images, Q queries, L decoder depths, T tokens (padded to the text length), C classes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, MMGroundingDinoConfig
from transformers.models.mm_grounding_dino.modeling_mm_grounding_dino import MMGroundingDinoForObjectDetection

from sskd_core.errors import ConfigError
from sskd_core.models.architecture import explained
from sskd_core.models.grounding_prompt import Prompt

SWIN_LARGE: dict[str, Any] = {
    "backbone_config": {
        "model_type": "swin",
        "image_size": 384,
        "window_size": 12,
        "embed_dim": 192,
        "depths": [2, 2, 18, 2],
        "num_heads": [6, 12, 24, 48],
        "out_features": ["stage1", "stage2", "stage3", "stage4"],
    },
    "num_feature_levels": 5,
}
"""The architecture of MM-Grounding-DINO Swin-L where it differs from the defaults of `transformers`."""


@dataclass
class PromptOutput:
    """The detector's predictions for one prompt at every supervised depth, the last one final.

    Attributes:
        prompt: what was asked.
        logits: of the tokens, [L, B, Q, T]; -inf beyond the prompt.
        boxes: [L, B, Q, 4], centre x, centre y, width, height as fractions of the image.
        proposal_logits: of the proposals that became queries, [B, Q, T].
        proposal_boxes: likewise, [B, Q, 4].
    """

    prompt: Prompt
    logits: Tensor
    boxes: Tensor
    proposal_logits: Tensor
    proposal_boxes: Tensor

    def rows(self, part: slice) -> PromptOutput:
        """Return the predictions for some images of the batch."""
        return PromptOutput(
            self.prompt,
            self.logits[:, part],
            self.boxes[:, part],
            self.proposal_logits[part],
            self.proposal_boxes[part],
        )


class SharedBackbone(nn.Module):
    """The image backbone of `transformers`, under the names of its parameters, that can remember one result.

    Args:
        backbone: what it stands in for.
    """

    def __init__(self, backbone: Any) -> None:
        super().__init__()
        self.conv_encoder = backbone.conv_encoder
        self.position_embedding = backbone.position_embedding
        self._remembers = False
        self._held: tuple[list[tuple[Tensor, Tensor]], list[Tensor]] | None = None

    def forward(self, pixel_values: Tensor, pixel_mask: Tensor) -> tuple[list[tuple[Tensor, Tensor]], list[Tensor]]:
        """Return the maps with their masks, and their position embeddings."""
        features, positions = self._held or self._compute(pixel_values, pixel_mask)
        if self._remembers:
            self._held = (features, positions)
        return list(features), list(positions)  # the caller appends to its lists

    @contextmanager
    def remembering(self) -> Iterator[None]:
        """Give every call inside the result of the first."""
        self._remembers = True
        try:
            yield
        finally:
            self._remembers, self._held = False, None

    def _compute(self, pixels: Tensor, mask: Tensor) -> tuple[list[tuple[Tensor, Tensor]], list[Tensor]]:
        features = self.conv_encoder(pixels, mask)
        return features, [self.position_embedding(level, inside).to(level.dtype) for level, inside in features]


def build_detector(arch: dict[str, Any]) -> Any:
    """Build the network with random values; an empty `arch` is that of Swin-L.

    The loss is asked for every decoder depth, as DINO is trained, whatever `arch` says. The text tower is frozen.

    Raises:
        ConfigError: the architecture is not one of MM-Grounding-DINO.
    """
    values = dict(arch or SWIN_LARGE)
    with explained("family grounded_sam, detector"):
        for part in ("backbone_config", "text_config"):
            if isinstance(values.get(part), dict):
                settings = dict(values[part])
                values[part] = AutoConfig.for_model(settings.pop("model_type"), **settings)
        network = MMGroundingDinoForObjectDetection(MMGroundingDinoConfig(**values | {"auxiliary_loss": True}))
    if not network.config.two_stage:
        raise ConfigError("family grounded_sam, detector: two_stage must be true; queries are chosen proposals")
    network.model.backbone = SharedBackbone(network.model.backbone)
    network.model.text_backbone.requires_grad_(False)
    return network


def image_levels(network: Any, pixels: Tensor) -> list[Tensor]:
    """Return the two coarsest maps of the image backbone, strides 16 and 32, each [B, E, h, w]."""
    return list(network.model.backbone.conv_encoder.model(pixels, return_dict=True).feature_maps)[-2:]


def ask(network: Any, pixels: Tensor, pixel_mask: Tensor, prompts: list[Prompt]) -> list[PromptOutput]:
    """Ask every prompt about the same images; the image backbone runs once.

    Args:
        network: from `build_detector`.
        pixels: [B, 3, H, W], normalised.
        pixel_mask: [B, H, W], 1 inside the image and 0 in the padding.
        prompts: at least one.
    """
    answers = []
    with network.model.backbone.remembering():
        for prompt in prompts:
            ids = torch.tensor([prompt.ids], device=pixels.device).expand(len(pixels), -1)
            output = network(pixel_values=pixels, pixel_mask=pixel_mask, input_ids=ids, return_dict=True)
            logits, boxes = _all_depths(network, output, ids)
            answers.append(PromptOutput(prompt, logits, boxes, *_proposals(network, output)))
    return answers


def _all_depths(network: Any, output: Any, ids: Tensor) -> tuple[Tensor, Tensor]:
    """Apply the heads to the states of every depth; `transformers` gives those of the last one alone."""
    references = [output.init_reference_points, *output.intermediate_reference_points.unbind(1)]
    logits, boxes = [], []
    for depth, states in enumerate(output.intermediate_hidden_states.unbind(1)):
        logits.append(
            network.class_embed[depth](
                vision_hidden_state=states,
                text_hidden_state=output.encoder_last_hidden_state_text,
                text_token_mask=torch.ones_like(ids, dtype=torch.bool),
            )
        )
        boxes.append((network.bbox_embed[depth](states) + torch.special.logit(references[depth], eps=1e-5)).sigmoid())
    return torch.stack(logits), torch.stack(boxes)


def _proposals(network: Any, output: Any) -> tuple[Tensor, Tensor]:
    """Choose the proposals that became queries, with the gradient that `transformers` cuts from its own choice."""
    best = output.enc_outputs_class.amax(-1).topk(network.config.num_queries, dim=1).indices[..., None]
    logits = output.enc_outputs_class.gather(1, best.expand(-1, -1, output.enc_outputs_class.shape[-1]))
    boxes = output.enc_outputs_coord_logits.gather(1, best.expand(-1, -1, 4)).sigmoid()
    return logits, boxes
