"""SSKD's instance-aware pixel contrastive loss: debiased negatives from the student's own predictions, NT-Xent.

Taghavi et al. 2026 (arXiv 2604.03841), section 3. A pixel is a cell of an encoder map. Two pixels whose predictions
agree probably show the same instance, so the less they agree, the likelier one is drawn as the other's negative.

Shape letters: B images, K queries, C classes, h x w cells, V cells that show image and not padding (over the whole
batch), A anchors of a chunk or of a process, R negatives, F length of a fused map, D embedding.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from sskd_core.config.contrast import PixelContrastConfig, TemperatureConfig
from sskd_core.distributed import group

Negatives = Literal["uniform", "mask", "class", "fusion"]
_ROWS = 64
"""Anchors whose random numbers are drawn together: chunks are whole multiples, so chunking changes no draw."""
_MATRICES = 8
"""Pairwise matrices of a chunk that are alive at the peak: weights, noise, keys, top-k's work, similarities."""
_ROUNDING = 1e-6
"""Weights below are 0: a pixel and its twin differ by float error alone."""


@dataclass
class Contrast:
    """The loss of a batch, and what was drawn for it.

    Attributes:
        loss: scalar, the mean over anchors; an exact 0 with a gradient path where there is no anchor. In one of several
            processes its share of the mean over the anchors of all.
        anchors: [A] which cells are anchors; all V, or those of this process.
        negatives: [A, R] indices of the drawn cells.
        drawn: [A, R]; false where an anchor had fewer than R candidates.
        positive: [A] cosine to the same cell of the strong view.
        negative: [A, R] cosines to the drawn cells.
    """

    loss: Tensor
    anchors: Tensor
    negatives: Tensor
    drawn: Tensor
    positive: Tensor
    negative: Tensor


def fused_map(
    class_logits: Tensor, mask_logits: Tensor, size: tuple[int, int], kind: Negatives = "fusion"
) -> tuple[Tensor, Tensor]:
    """Return what each pixel is predicted to be, y = [P_m || F_c] with unit L2 norm.

    P_m is the softmax of the mask logits over queries, F_c = sum_k P_m[k] * softmax(class logits of k) the expected
    class distribution. `mask` and `class` keep one half; `uniform` returns zeros, which make all pixels unlike.

    Args:
        class_logits: [B, K, C+1].
        mask_logits: [B, K, H, W]; resized bilinearly.
        size: (h, w) of the feature map.
        kind: which halves.

    Returns:
        y [B, h * w, F], detached, and the query with the largest share of each pixel, [B, h * w].
    """
    with torch.no_grad(), torch.autocast(mask_logits.device.type, enabled=False):
        masks = functional.interpolate(_precise(mask_logits), size, mode="bilinear", align_corners=False)
        of_query = masks.flatten(2).softmax(1).transpose(1, 2)
        query = of_query.argmax(-1)
        if kind == "uniform":
            return of_query.new_zeros(*of_query.shape[:2], 1), query
        of_class = of_query @ _precise(class_logits).softmax(-1)
        parts = {"mask": [of_query], "class": [of_class], "fusion": [of_query, of_class]}[kind]
        return functional.normalize(torch.cat(parts, -1), dim=-1), query


def debiased_weights(anchors: Tensor, candidates: Tensor) -> Tensor:
    """Return s_deb = max(0, 1 - <y, y'>), the weight with which a candidate is drawn.

    Args:
        anchors: [A, F], unit rows.
        candidates: [V, F], unit rows.

    Returns:
        [A, V] in 0..1.
    """
    weights = 1.0 - anchors @ candidates.T
    return weights * (weights > _ROUNDING)


def temperature_at(config: TemperatureConfig, step: int, iterations: int) -> float:
    """Return T at a step counted from 0; the last step of the run has `end`."""
    done = min(1.0, step / max(1, iterations - 1))
    match config.schedule:
        case "linear":
            return config.start + (config.end - config.start) * done
        case "exponential":
            return config.start * math.pow(config.end / config.start, done)
        case "constant":
            return config.start


class PixelContrast:
    """The loss.

    Args:
        config: sampler, scope, number of negatives, memory bound.
    """

    def __init__(self, config: PixelContrastConfig) -> None:
        self.config = config

    def __call__(
        self,
        weak: Tensor,
        strong: Tensor,
        y: Tensor,
        image: Tensor,
        temperature: float,
        own: Tensor | None = None,
    ) -> Contrast:
        """Score all pixels of a batch, each as an anchor.

        L = -1/V sum_p log(exp(s+) / (exp(s+) + sum_r exp(s-_r))), s+ = <z^w_p, z^s_p> / T to the strong view,
        s-_r = <z^w_p, z^w_q> / T to R pixels q of the weak view, drawn without replacement with probability
        proportional to s_deb (Gumbel top-k). An anchor with fewer than R candidates uses those that it has.

        Args:
            weak: [V, D] unit embeddings of the weak view.
            strong: [A, D] of the anchors in the strong view.
            y: [V, F] from `fused_map`, without the padding.
            image: [V] number of the image that a pixel is of.
            temperature: T.
            own: [A] ascending, the anchors, where the pixels are those of all processes; None for all V.
        """
        weak, strong = _precise(weak), _precise(strong)
        everything = torch.arange(len(weak), device=weak.device)
        own = everything if own is None else own
        chunks = everything.split(self._rows(len(weak)))
        places = torch.arange(len(own), device=own.device).split(
            [int(((own >= rows[0]) & (own <= rows[-1])).sum()) if len(rows) else 0 for rows in chunks]
        )
        parts = []
        # Half-precision products would turn the small weights of near twins into noise.
        with torch.autocast(weak.device.type, enabled=False):
            for rows, part in zip(chunks, places, strict=True):
                noise = _noise(rows, own[part], y)
                if len(part):
                    parts.append(
                        self._chunk(weak, strong[part], y, image, own[part], noise, temperature, len(chunks) > 1)
                    )
        count = max(1, group.share(len(own)).total)
        if not parts:
            none = weak.new_zeros(0, 0)
            zero = weak.sum() * 0.0
            return Contrast(zero, own, none.long(), none.bool(), weak.new_zeros(0), none)
        losses, negatives, drawn, positive, negative = (torch.cat(column) for column in zip(*parts, strict=True))
        return Contrast(losses.sum() / count, own, negatives, drawn, positive, negative)

    def _rows(self, cells: int) -> int:
        budget = self.config.memory_mb * 2**20 // (_MATRICES * 4 * max(1, cells))
        return max(_ROWS, budget // _ROWS * _ROWS)

    def _chunk(
        self,
        weak: Tensor,
        strong: Tensor,
        y: Tensor,
        image: Tensor,
        rows: Tensor,
        noise: Tensor,
        temperature: float,
        recompute: bool,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        negatives, drawn = self._draw(y, image, rows, noise)
        arguments = (weak[rows], strong, weak, negatives, drawn, temperature)
        # Several chunks must not keep all their pairwise similarities for the way back.
        scored = checkpoint(_nt_xent, *arguments, use_reentrant=False) if recompute else _nt_xent(*arguments)
        losses, positive, negative = scored
        return losses, negatives, drawn, positive.detach(), negative.detach()

    @torch.no_grad()
    def _draw(self, y: Tensor, image: Tensor, rows: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        weights = debiased_weights(y[rows], y)
        weights[torch.arange(len(rows), device=rows.device), rows] = 0.0
        if self.config.negative_scope != "batch":
            same = image[rows, None] == image[None]
            weights *= same if self.config.negative_scope == "same_image" else ~same
        # log(weight) + Gumbel noise, with Gumbel = -log(Exponential); a weight of 0 becomes -inf.
        keys, negatives = (weights.log() - noise.log()).topk(min(self.config.num_negatives, len(y)), dim=1)
        return negatives, keys > -torch.inf


def _noise(rows: Tensor, own: Tensor, y: Tensor) -> Tensor:
    """Draw exponential noise [rows, V] and return that of the own rows, so that a row has the same in any process."""
    kept = []
    for part in rows.split(_ROWS) if len(rows) else ():
        block = y.new_empty(len(part), len(y)).exponential_()
        kept.append(block if len(own) == len(rows) else block[own[(own >= part[0]) & (own <= part[-1])] - part[0]])
    return torch.cat(kept) if kept else y.new_zeros(0, len(y))


def _nt_xent(
    anchors: Tensor, strong: Tensor, weak: Tensor, negatives: Tensor, drawn: Tensor, temperature: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the loss of each anchor, [A], its positive cosine, [A], and its negative ones, [A, R]."""
    positive = (anchors * strong).sum(1)
    negative = (anchors @ weak.T).gather(1, negatives)
    logits = torch.cat([positive[:, None], negative.masked_fill(~drawn, -torch.inf)], 1) / temperature
    return torch.logsumexp(logits, 1) - logits[:, 0], positive, negative


def _precise(tensor: Tensor) -> Tensor:
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def contrast_figures(contrast: Contrast, query: Tensor, instance: Tensor) -> dict[str, Tensor]:
    """Return the diagnostics of a batch.

    - `contrast_margin`: mean positive minus mean negative cosine, the empirical margin of Proposition 3.1.
    - `contrast_positive`, `contrast_negative`: these means.
    - `contrast_fnr_pred`: share of negatives with the anchor's own most likely query, whatever their image; near 1 for
      a student that gives every pixel to one query.
    - `contrast_fnr_truth`: share of negatives that show the anchor's own annotated instance, over anchors that show
      one. Only there where the batch has annotated pixels; the honest test of the proposition's p = 1 - FNR > 0.5.

    Args:
        contrast: the loss of the batch.
        query: [V] most likely query of each pixel.
        instance: [V] annotated instance, numbered through the batch; negative where there is none.
    """
    drawn = contrast.drawn
    if not drawn.any():
        return {}
    positive = contrast.positive.mean()
    negative = contrast.negative[drawn].mean()
    figures = {
        "contrast_margin": positive - negative,
        "contrast_positive": positive,
        "contrast_negative": negative,
        "contrast_fnr_pred": (query[contrast.negatives] == query[contrast.anchors, None])[drawn].float().mean(),
    }
    own = instance[contrast.anchors, None]
    annotated = drawn & (own >= 0)
    if annotated.any():
        same = instance[contrast.negatives] == own
        figures["contrast_fnr_truth"] = same[annotated].float().mean()
    return figures
