"""SAM 2 as a segmenter of boxes: one pass of its image encoder an image, then masks for as many boxes as there are.

Shape letters: B images, n boxes of an image, S the side of SAM's square input.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from transformers import Sam2Config, Sam2Model

from sskd_core.models.architecture import explained

BOXES_AT_ONCE = 32
"""The decoder widens the image's features for each box: 32 boxes take about 2 GB of them at S = 1024."""


@dataclass
class SamFeatures:
    """What SAM's image encoder sees.

    Attributes:
        levels: strides 16 and 32, each [B, E, S/16, S/16] and [B, E', S/32, S/32].
        pyramid: what the mask decoder reads, strides 4, 8 and 16, each [B, 256, h, w] (of SAM 2.1).
    """

    levels: list[Tensor]
    pyramid: list[Tensor]

    def rows(self, part: slice) -> SamFeatures:
        """Return the features of some images of the batch."""
        return SamFeatures([item[part] for item in self.levels], [item[part] for item in self.pyramid])


def sam_large(side: int = 1024) -> dict[str, Any]:
    """Return the architecture of SAM 2.1-L where it differs from the defaults of `transformers`.

    Args:
        side: S, a multiple of 32; the weights are the same for all.
    """
    return {
        "vision_config": {
            "model_type": "sam2_vision_model",
            "backbone_config": {
                "model_type": "sam2_hiera_det_model",
                "image_size": [side, side],
                "hidden_size": 144,
                "num_attention_heads": 2,
                "blocks_per_stage": [2, 6, 36, 4],
                "embed_dim_per_stage": [144, 288, 576, 1152],
                "num_attention_heads_per_stage": [2, 4, 8, 16],
                "window_size_per_stage": [8, 4, 16, 8],
                "global_attention_blocks": [23, 33, 43],
            },
            "backbone_channel_list": [1152, 576, 288, 144],
            "backbone_feature_sizes": [[side // stride] * 2 for stride in (4, 8, 16)],
        },
        "prompt_encoder_config": {"image_size": side},
    }


def build_sam(arch: dict[str, Any]) -> Any:
    """Build the network with random values; an empty `arch` is that of SAM 2.1-L.

    Raises:
        ConfigError: the architecture is not one of SAM 2.
    """
    with explained("family grounded_sam, segmenter"):
        return Sam2Model(Sam2Config(**(arch or sam_large())))


def input_side(network: Any) -> int:
    """Return S."""
    return int(network.prompt_encoder.input_image_size)


def resize_pixels(network: Any, pixels: Tensor) -> Tensor:
    """Bring normalised pixels [B, 3, H, W] to SAM's square input; like SAM's own transform it ignores the aspect."""
    side = input_side(network)
    return functional.interpolate(pixels, (side, side), mode="bilinear", antialias=True)


def encode_image(network: Any, pixels: Tensor) -> SamFeatures:
    """Run the image encoder.

    Args:
        network: a `Sam2Model`.
        pixels: [B, 3, S, S], normalised.
    """
    output = network.vision_encoder(pixels, return_dict=True)
    pyramid = list(output.fpn_hidden_states)
    return SamFeatures([pyramid[-1], output.last_hidden_state.permute(0, 3, 1, 2)], pyramid)


def decode_boxes(network: Any, pyramid: list[Tensor], boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Segment boxes of one image, in 32-bit arithmetic whatever the autocast: box positions need the precision.

    Args:
        network: a `Sam2Model`. In training mode the single-mask output is taken as it is; else an unstable one gives
            way to the best of the others, as SAM 2 does it.
        pyramid: of the image alone, each [1, 256, h, w].
        boxes: [n, 4], x0 y0 x1 y1 as fractions of the image.

    Returns:
        Mask logits [n, S/4, S/4] over the whole image, and the predicted IoU [n].
    """
    side = input_side(network)
    if len(boxes) == 0:
        return boxes.new_zeros(0, *pyramid[0].shape[2:]), boxes.new_zeros(0)
    masks, scores = [], []
    with torch.autocast(boxes.device.type, enabled=False):
        embeddings = [
            network.mask_decoder.conv_s0(pyramid[0].float()),
            network.mask_decoder.conv_s1(pyramid[1].float()),
            pyramid[2].float() + network.no_memory_embedding.view(1, -1, 1, 1),
        ]
        for part in boxes.float().split(BOXES_AT_ONCE):
            output = network(image_embeddings=embeddings, input_boxes=part[None] * side, multimask_output=False)
            masks.append(output.pred_masks[0, :, 0])
            scores.append(output.iou_scores[0, :, 0])
    return torch.cat(masks), torch.cat(scores)
