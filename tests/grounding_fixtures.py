"""A tiny `grounded_sam`: its two networks in the folder format of `transformers`, with a tokenizer of a few words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from engine_fixtures import CLASSES
from transformers import BertTokenizer, Sam2Config, Sam2Model
from transformers.models.mm_grounding_dino.modeling_mm_grounding_dino import MMGroundingDinoForObjectDetection

from sskd_core.config.model import InputConfig, ModelConfig
from sskd_core.models.build import build_model
from sskd_core.models.grounded_sam import GroundedSam
from sskd_core.models.grounding_detector import build_detector

SIZE = InputConfig(height=64, width=96)
DETECTOR: dict[str, Any] = {
    "backbone_config": {
        "model_type": "swin",
        "embed_dim": 8,
        "depths": [1, 1, 1, 1],
        "num_heads": [1, 1, 2, 2],
        "window_size": 2,
        "image_size": 32,
        "out_features": ["stage2", "stage3", "stage4"],
    },
    "text_config": {
        "model_type": "bert",
        "vocab_size": 1040,
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 16,
        "max_position_embeddings": 32,
    },
    "num_feature_levels": 4,
    "d_model": 64,
    "encoder_layers": 1,
    "decoder_layers": 2,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 32,
    "decoder_ffn_dim": 32,
    "num_queries": 12,
    "max_text_len": 24,
    "fusion_droppath": 0.0,
    "dropout": 0.0,
}
SEGMENTER: dict[str, Any] = {
    "vision_config": {
        "model_type": "sam2_vision_model",
        "backbone_config": {
            "model_type": "sam2_hiera_det_model",
            "hidden_size": 8,
            "blocks_per_stage": [1, 1, 2, 1],
            "embed_dim_per_stage": [8, 16, 32, 64],
            "num_attention_heads_per_stage": [1, 1, 2, 2],
            "window_size_per_stage": [4, 4, 4, 2],
            "window_positional_embedding_background_size": [4, 4],
            "global_attention_blocks": [3],
            "image_size": [64, 64],
        },
        "backbone_channel_list": [64, 32, 16, 8],
        "backbone_feature_sizes": [[16, 16], [8, 8], [4, 4]],
        "fpn_hidden_size": 32,
    },
    "prompt_encoder_config": {"hidden_size": 32, "image_size": 64, "patch_size": 16, "mask_input_channels": 8},
    "mask_decoder_config": {
        "hidden_size": 32,
        "mlp_dim": 32,
        "num_attention_heads": 2,
        "iou_head_hidden_dim": 16,
    },
}
WORDS = [
    *CLASSES,
    "square",
    "triangle",
    "ring",
    "cross",
    "round",
    "thing",
    "traffic",
    "light",
    "saint",
    "bernard",
    *"abcdefghij",
]


def tokenizer() -> BertTokenizer:
    """Return a tokenizer of a few words, whose special tokens have the ids of BERT's."""
    vocabulary = {f"[unused{number}]": number for number in range(1030)}
    fixed = {"[PAD]": 0, "[UNK]": 100, "[CLS]": 101, "[SEP]": 102, "[MASK]": 103, ".": 1012, "?": 1029}
    fixed |= {word: 200 + number for number, word in enumerate(WORDS)}
    taken = set(fixed.values())
    kept = {token: number for token, number in vocabulary.items() if number not in taken}
    return BertTokenizer(vocab=kept | fixed)


def save_detector(folder: Path, seed: int = 0, **changes: Any) -> Path:
    """Save a detector and its tokenizer as `transformers` does.

    Its values are made larger than at initialisation, so that queries and tokens differ in what they say.
    """
    network = build_detector(DETECTOR | changes)
    official = MMGroundingDinoForObjectDetection(network.config)
    _stir(official, seed)
    official.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


def save_segmenter(folder: Path, seed: int = 0) -> Path:
    """Save a segmenter as `transformers` does."""
    official = Sam2Model(Sam2Config(**SEGMENTER))
    _stir(official, seed)
    official.save_pretrained(folder)
    return folder


def _stir(network: torch.nn.Module, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.dim() > 1:
                scale = 1.0 / parameter[0].numel() ** 0.5
                parameter.copy_(scale * torch.randn(parameter.shape, generator=generator))
            elif parameter.dim() == 0:
                parameter.zero_()  # the bias of the class scores, which starts at a probability of 0.01


def grounded_config(detector: Path | None = None, segmenter: Path | None = None, **grounding: Any) -> ModelConfig:
    """Return the configuration of the tiny teacher, from folders if they are given."""
    parts = {} if detector is None else {"detector": str(detector), "segmenter": str(segmenter)}
    arch = {"detector": DETECTOR, "segmenter": SEGMENTER} if detector is None else {}
    return ModelConfig(family="grounded_sam", arch=arch, grounding={**parts, **grounding}, input=SIZE)


def tiny_teacher(detector: Path, segmenter: Path, classes: list[str] | None = None, **grounding: Any) -> GroundedSam:
    """Load the tiny teacher, in eval mode."""
    config = grounded_config(detector, segmenter, **grounding)
    model = build_model(config, CLASSES if classes is None else classes, None, seed=0)
    assert isinstance(model, GroundedSam)
    return model.eval()
