"""The foundation-model teacher: MM-Grounding-DINO finds boxes of the classes, SAM 2 segments them.

Spec: `Training a Student Expert via Semi-Supervised Foundation Model Distillation`, its teacher. Both networks are
those of `transformers`; the composition, the prompts and what is trained are ours. Shape letters: B images, H x W
input, K boxes an image, C classes, S the side of SAM's input.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from sskd_core.config.base import StrictModel, validate
from sskd_core.config.grounding import GroundingConfig
from sskd_core.config.model import ModelConfig
from sskd_core.errors import ConfigError
from sskd_core.models.grounding_detector import PromptOutput, ask, build_detector, image_levels
from sskd_core.models.grounding_prompt import PhraseTokenizer, Prompt, make_prompts
from sskd_core.models.protocol import QueryOutput, SegmentationModel
from sskd_core.models.sam_masks import SamFeatures, build_sam, decode_boxes, encode_image, resize_pixels
from sskd_core.models.tied import name_once

TOKENIZER = "tokenizer.json"
_STRIDES = (4, 8, 16, 32, 64)


class GroundedSamArch(StrictModel):
    """The architectures, each a configuration of `transformers` as a mapping; empty ones are Swin-L and SAM 2.1-L."""

    detector: dict[str, Any] = Field(default_factory=dict, description="an MMGroundingDinoConfig")
    segmenter: dict[str, Any] = Field(default_factory=dict, description="a Sam2Config")


@dataclass
class Detections:
    """The best boxes of one image, best first.

    Attributes:
        boxes: [n, 4], x0 y0 x1 y1 as fractions of the image, inside it.
        scores: [n, C], of every class, 0..1.
    """

    boxes: Tensor
    scores: Tensor


class GroundedOutput(QueryOutput):
    """What the detector says of a batch, and on request what SAM makes of it.

    The detector has run; its loss needs no more. Masks and features are computed when they are first read, so that a
    run without the contrastive term does not pay for SAM. Masks carry no gradient.

    Args:
        model: that predicts.
        pixels: [B, 3, H, W], normalised.
        answers: of the detector, one a prompt.
        features: of SAM's image encoder, if they are known already.
    """

    def __init__(
        self, model: GroundedSam, pixels: Tensor, answers: list[PromptOutput], features: SamFeatures | None = None
    ) -> None:
        self.model, self.pixels, self.answers = model, pixels, answers
        if features is not None:
            self.features = features

    @cached_property
    def features(self) -> SamFeatures:
        """SAM's image features."""
        return self.model.encode_for_sam(self.pixels)

    @cached_property
    def detections(self) -> list[Detections]:
        """The K best boxes of each image, without gradient."""
        return self.model.best_boxes(self.answers)

    @cached_property
    def class_logits(self) -> list[Tensor]:  # type: ignore[override]
        """One depth, [B, K, C+1]: logarithms of the probabilities that `class_distribution` makes of the scores."""
        return [class_distribution(torch.stack([item.scores for item in self.detections])).log()]

    @cached_property
    def mask_logits(self) -> list[Tensor]:  # type: ignore[override]
        """One depth, [B, K, S/4, S/4], of the boxes."""
        with torch.no_grad():
            return [torch.stack([self.decode(image, item.boxes)[0] for image, item in enumerate(self.detections)])]

    @cached_property
    def encoder_levels(self) -> list[Tensor]:  # type: ignore[override]
        """Strides 16 and 32 of the image encoder that `grounding.contrast_encoder` names; empty if it names none."""
        match self.model.grounding.contrast_encoder:
            case "segmenter":
                return self.features.levels
            case "detector":
                return image_levels(self.model.detector, self.pixels)
            case _:
                return []

    def decode(self, image: int, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """Segment boxes [n, 4] (fractions of the input) of one image; see `sam_masks.decode_boxes`.

        The image's features are detached: the mask decoder learns here, not the encoder.
        """
        pyramid = [level[image : image + 1].detach() for level in self.features.pyramid]
        return decode_boxes(self.model.segmenter, pyramid, boxes)

    def rows(self, part: slice) -> GroundedOutput:
        """Return the predictions for some images of the batch; all parts share SAM's features if they need them."""
        needed = self.model.grounding.train_mask_decoder or "features" in self.__dict__
        features = self.features.rows(part) if needed else None
        return GroundedOutput(self.model, self.pixels[part], [item.rows(part) for item in self.answers], features)


class GroundedSam(SegmentationModel):
    """MM-Grounding-DINO (Zhao et al. 2024, arXiv 2401.02361) and SAM 2 (Ravi et al. 2024, arXiv 2408.00714).

    The text tower and SAM's prompt encoder are frozen; SAM's mask decoder and image encoder learn as `grounding` says.

    Attributes:
        prompts: what the detector is asked; made when the tokenizer arrives among the assets.

    Args:
        config: `arch` as in `GroundedSamArch`, with `grounding`.
        classes: class names.

    Raises:
        ConfigError: an architecture is not valid, the input is too small for it, or `class_thresholds` names an
            unknown class.
    """

    @classmethod
    def check_arch(cls, arch: Mapping[str, Any]) -> None:
        """Refuse unknown keys; see `SegmentationModel.check_arch`."""
        validate(GroundedSamArch, arch, "family grounded_sam")

    def __init__(self, config: ModelConfig, classes: list[str]) -> None:
        super().__init__()
        self.config, self.classes = config, classes
        arch = validate(GroundedSamArch, config.arch, "family grounded_sam")
        self.detector = build_detector(arch.detector)
        self.segmenter = build_sam(arch.segmenter)
        self._check_input()
        unknown = sorted(set(self.grounding.class_thresholds) - set(classes))
        if unknown:
            known = ", ".join(classes)
            raise ConfigError(f"grounding.class_thresholds: no class '{unknown[0]}'; the classes are: {known}")
        self.segmenter.requires_grad_(False)
        self.segmenter.mask_decoder.requires_grad_(self.grounding.train_mask_decoder)
        self.segmenter.vision_encoder.requires_grad_(self.grounding.contrast_encoder == "segmenter")
        self.prompts: list[Prompt] = []
        name_once(self.detector)

    @property
    def grounding(self) -> GroundingConfig:
        """The prompts' and thresholds' configuration."""
        assert self.config.grounding is not None
        return self.config.grounding

    def use_assets(self, files: Mapping[str, bytes], where: str) -> None:
        """Take the tokenizer and make the prompts; see `SegmentationModel.use_assets`."""
        if TOKENIZER in files:
            self.assets = {TOKENIZER: files[TOKENIZER]}
            network = self.detector.config
            tokenizer = PhraseTokenizer(files[TOKENIZER], where, network.text_config.vocab_size)
            self.prompts = make_prompts(self.classes, self.grounding.phrases, tokenizer, network.max_text_len)

    def forward(self, pixels: Tensor) -> GroundedOutput:
        """Predict; see `SegmentationModel.forward`."""
        return GroundedOutput(self, pixels, self.ask(pixels, torch.ones_like(pixels[:, 0], dtype=torch.int64)))

    def encode(self, pixels: Tensor) -> list[Tensor]:
        """Return strides 16 and 32; see `SegmentationModel.encode`."""
        return GroundedOutput(self, pixels, []).encoder_levels

    def encoder_module(self) -> nn.Module:
        """Return both image encoders."""
        return nn.ModuleList([self.detector.model.backbone.conv_encoder, self.segmenter.vision_encoder])

    def train(self, mode: bool = True) -> GroundedSam:
        """Set the mode; what is frozen stays as in inference."""
        super().train(mode)
        self.detector.model.text_backbone.eval()
        self.segmenter.eval()
        self.segmenter.vision_encoder.train(mode and self.grounding.contrast_encoder == "segmenter")
        self.segmenter.mask_decoder.train(mode and self.grounding.train_mask_decoder)
        return self

    def ask(self, pixels: Tensor, pixel_mask: Tensor) -> list[PromptOutput]:
        """Run the detector; see `grounding_detector.ask`.

        Raises:
            ConfigError: there was no tokenizer to make prompts with.
        """
        if not self.prompts:
            raise ConfigError(
                f"family grounded_sam has no {TOKENIZER}, so it cannot ask for its classes; set grounding.detector and "
                "grounding.segmenter, or weights of an adapted teacher"
            )
        return ask(self.detector, pixels, pixel_mask, self.prompts)

    def encode_for_sam(self, pixels: Tensor) -> SamFeatures:
        """Run SAM's image encoder on pixels of any size; it keeps a graph only if it is to learn."""
        return encode_image(self.segmenter, resize_pixels(self.segmenter, pixels))

    @torch.no_grad()
    def best_boxes(self, answers: list[PromptOutput]) -> list[Detections]:
        """Join the answers to all prompts.

        Args:
            answers: to every prompt, about the same images.

        Returns:
            For each image its `max_boxes` best boxes by the score of their best class, whatever their score.
        """
        style, classes = self.grounding.span_score, len(self.classes)
        scores = torch.cat([item.prompt.class_scores(item.logits[-1], classes, style) for item in answers], dim=1)
        centres = torch.cat([item.boxes[-1].float() for item in answers], dim=1)
        corners = torch.cat([centres[..., :2] - centres[..., 2:] / 2, centres[..., :2] + centres[..., 2:] / 2], -1)
        count = min(self.grounding.max_boxes, scores.shape[1])
        # Stable, so that a batch and its images one by one agree on ties.
        order = scores.amax(-1).sort(dim=1, descending=True, stable=True).indices[:, :count]
        return [
            Detections(box[best].clamp(0.0, 1.0), score[best])
            for box, score, best in zip(corners, scores, order, strict=True)
        ]

    def _check_input(self) -> None:
        size, levels = self.input, self.detector.config.num_feature_levels
        strides = _STRIDES[-levels:]
        cells = sum(-(-size.height // stride) * -(-size.width // stride) for stride in strides)
        if cells < self.detector.config.num_queries:
            raise ConfigError(
                f"family grounded_sam: input {size.height} x {size.width} gives the detector {cells} cells for its "
                f"{self.detector.config.num_queries} queries; raise input.height or input.width"
            )


def class_distribution(scores: Tensor) -> Tensor:
    """Turn independent detection scores into one distribution over the classes and "no object".

    The best score is the probability that there is an object; the classes share it in proportion to their scores.

    Args:
        scores: [..., C], 0..1.

    Returns:
        [..., C+1], summing to 1, bounded away from 0; the last is "no object".
    """
    tiny = torch.finfo(scores.dtype).tiny ** 0.5
    best = scores.amax(-1, keepdim=True)
    shares = scores / scores.sum(-1, keepdim=True).clamp_min(tiny)
    return torch.cat([best * shares, 1.0 - best], -1).clamp_min(tiny)
