"""The objective of `grounded_sam`: the detector's set loss on boxes, and a mask loss on SAM's decoder.

The set loss is the one of `transformers` (DINO, Zhang et al. 2023, arXiv 2203.03605: Hungarian matching on classes and
boxes, focal loss on the tokens, L1 and GIoU on the boxes) at every decoder depth and on the proposals. Shape letters:
B images, n instances of an image, Q queries, T tokens, H x W input.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from transformers.loss.loss_grounding_dino import sigmoid_focal_loss

from sskd_core.distributed import group
from sskd_core.losses.boxes import boxes_of_masks, without_empty
from sskd_core.losses.points import point_mask_losses, sample_at
from sskd_core.losses.set_criterion import SetCriterion, Target
from sskd_core.models.grounded_sam import GroundedOutput
from sskd_core.models.grounding_detector import PromptOutput
from sskd_core.models.protocol import QueryOutput

_PARTS = {"loss_ce": "class", "loss_bbox": "box", "loss_giou": "giou"}
_CLASS_WEIGHT = 2.0
"""Of the focal term in the loss of `transformers`; the weights of the others are in the detector's configuration."""


class GroundingCriterion(SetCriterion):
    """The set loss of a `GroundedOutput`; the configuration's weights and points are for the mask decoder."""

    def __call__(self, output: QueryOutput, targets: list[Target]) -> dict[str, Tensor]:
        """Score a batch.

        Args:
            output: of a `GroundedSam`.
            targets: one an image, in batch order; boxes are those of the masks, and empty masks are left out.

        Returns:
            Weighted scalars `class`, `box`, `giou`, each summed over the decoder's depths; `proposal`, the same three
            of the proposals together; and with `grounding.train_mask_decoder` also `mask`, `dice` and `iou`. The
            terms of all prompts are added and divided by the instances of the batch. In one of several processes they
            are its share, as those of `SetCriterion`.
        """
        assert isinstance(output, GroundedOutput)
        targets = [without_empty(target) for target in targets]
        boxes = [boxes_of_masks(target.masks) for target in targets]
        terms = dict.fromkeys([*_PARTS.values(), "proposal"], output.answers[0].logits.new_zeros(()))
        for answer in output.answers:
            for name, value in _detection_terms(output.model.detector, answer, targets, boxes).items():
                terms[name] = terms[name] + value
        instances = group.share(sum(len(target.labels) for target in targets)).total
        losses = {name: value / max(1, instances) for name, value in terms.items()}
        if output.model.grounding.train_mask_decoder:
            losses |= self._decoder_terms(output, targets, boxes)
        return losses

    def _decoder_terms(self, output: GroundedOutput, targets: list[Target], boxes: list[Tensor]) -> dict[str, Tensor]:
        """Segment annotated boxes and compare: cross entropy and dice at points, and the error of the predicted IoU."""
        logits, quality, truth = [], [], []
        # Drawn for the images of all processes, so that an image has the same draws whichever process it is in.
        counts, first = group.all_counts([len(target.labels) for target in targets])
        orders = [torch.randperm(count) for count in counts]
        for image, target in enumerate(targets):
            chosen = orders[first + image][: output.model.grounding.decoder_instances]
            found, predicted = output.decode(image, boxes[image][chosen.to(boxes[image].device)])
            logits.append(found)
            quality.append(predicted)
            truth.append(target.masks[chosen.to(target.masks.device)])
        masks, wanted, predicted = torch.cat(logits), torch.cat(truth), torch.cat(quality)
        compared = group.share(len(masks)).total
        if compared == 0:
            zero = sum(parameter.sum() for parameter in output.model.segmenter.mask_decoder.parameters()) * 0.0
            return {"mask": zero, "dice": zero, "iou": zero}
        entropy, dice = point_mask_losses(masks, partial(sample_at, wanted), self.config)
        error = (predicted - mask_iou(masks.detach(), wanted)).abs()
        return {
            "mask": self.config.mask_weight * entropy.sum() / compared,
            "dice": self.config.dice_weight * dice.sum() / compared,
            "iou": error.sum() / compared,
        }


def mask_iou(logits: Tensor, truth: Tensor) -> Tensor:
    """Return the IoU of predicted masks [n, h, w] with true ones [n, H, W], compared at h x w; [n]."""
    wanted = functional.adaptive_avg_pool2d(truth[:, None], (logits.shape[1], logits.shape[2]))[:, 0] >= 0.5
    found = logits > 0.0
    both, either = (found & wanted).flatten(1).sum(1), (found | wanted).flatten(1).sum(1)
    return both / either.clamp_min(1)


def _detection_terms(
    detector: Any, answer: PromptOutput, targets: list[Target], boxes: list[Tensor]
) -> dict[str, Tensor]:
    """Return the weighted terms of one prompt, not yet divided by the number of instances."""
    if not torch.isfinite(answer.boxes).all():
        # The matcher would refuse such boxes with an error of its own; the trainer explains a loss that is not finite.
        return dict.fromkeys([*_PARTS.values(), "proposal"], answer.boxes.sum() * torch.nan)
    rows = {category: row for row, category in enumerate(answer.prompt.categories)}
    labels = []
    for target, corners in zip(targets, boxes, strict=True):
        asked = torch.tensor([label in rows for label in target.labels.tolist()], dtype=torch.bool)
        classes = torch.tensor([rows[label] for label in target.labels.tolist() if label in rows], dtype=torch.int64)
        kept = corners[asked.to(corners.device)]
        centres = torch.cat([(kept[:, :2] + kept[:, 2:]) / 2, kept[:, 2:] - kept[:, :2]], 1)
        labels.append({"class_labels": classes.to(corners.device), "boxes": centres})
    instances = sum(len(label["class_labels"]) for label in labels)
    figures = _set_loss(detector, answer, labels) if instances else _no_instance(answer)
    config = detector.config
    weights = {
        "loss_ce": _CLASS_WEIGHT,
        "loss_bbox": config.bbox_loss_coefficient,
        "loss_giou": config.giou_loss_coefficient,
    }
    terms = dict.fromkeys([*_PARTS.values(), "proposal"], answer.boxes.sum() * 0.0)
    for name, value in figures.items():
        part = next((part for part in _PARTS if name.startswith(part)), None)
        if part is not None:
            term = "proposal" if name.endswith("_enc") else _PARTS[part]
            terms[term] = terms[term] + weights[part] * max(1, instances) * value
    return terms


def _set_loss(detector: Any, answer: PromptOutput, labels: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Return the terms of `transformers`, divided by the instances and not weighted."""
    logits, boxes = answer.logits.float(), answer.boxes.float()
    device = logits.device
    wanted = answer.prompt.token_map(logits.shape[-1], device)
    _, figures, _ = detector.loss_function(
        logits[-1],
        labels,
        device,
        boxes[-1],
        detector.config,
        tuple(wanted for _ in labels),
        _text_mask(answer, logits[-1]),
        outputs_class=logits,
        outputs_coord=boxes,
        encoder_logits=answer.proposal_logits.float(),
        encoder_pred_boxes=answer.proposal_boxes.float(),
    )
    terms: dict[str, Tensor] = figures
    return terms


def _no_instance(answer: PromptOutput) -> dict[str, Tensor]:
    """Return the focal terms of a batch without an instance, which the matcher of `transformers` cannot take."""
    figures = {}
    depths = {f"loss_ce_{depth}": logits for depth, logits in enumerate(answer.logits)}
    for name, logits in (depths | {"loss_ce_enc": answer.proposal_logits}).items():
        shown = torch.masked_select(logits.float(), _text_mask(answer, logits))
        figures[name] = sigmoid_focal_loss(shown, torch.zeros_like(shown), num_boxes=1)
    return figures


def _text_mask(answer: PromptOutput, logits: Tensor) -> Tensor:
    """Return which of the logits [B, Q, T] belong to tokens of the prompt."""
    mask = torch.zeros_like(logits, dtype=torch.bool)
    mask[..., : len(answer.prompt.ids)] = True
    return mask
