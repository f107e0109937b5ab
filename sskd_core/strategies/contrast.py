"""The contrastive term of a step: strong view, encoder pass without gradient, projector, loss and diagnostics."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from sskd_core.config.contrast import PixelContrastConfig
from sskd_core.data.loader import Batch
from sskd_core.data.strong_view import strong_views
from sskd_core.distributed import group
from sskd_core.errors import ConfigError
from sskd_core.losses.pixel_contrast import PixelContrast, contrast_figures, fused_map, temperature_at
from sskd_core.models.protocol import QueryOutput, SegmentationModel
from sskd_core.strategies.base import StepTerms


class ContrastTerm(nn.Module):
    """lambda_pxl * L_pxl on all images of a step, with the projector that trains beside the network.

    Gradient reaches the encoder through the weak view alone, and the projector through both views; the predictions
    that choose the negatives are detached.

    Args:
        model: the network that is trained; one probe of its encoder tells the width of the feature level.
        config: the term.
        weight: lambda_pxl.
        iterations: length of the run, for the temperature.
        seed: the run's seed.

    Raises:
        ConfigError: the encoder has no such feature level.
    """

    def __init__(
        self, model: SegmentationModel, config: PixelContrastConfig, weight: float, iterations: int, seed: int
    ) -> None:
        super().__init__()
        self.config = config
        self._weight, self._iterations, self._seed = weight, iterations, seed
        self._loss = PixelContrast(config)
        channels, width = _channels(model, config.feature_level), config.projector_dim
        device = next(model.parameters()).device
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.projector = nn.Sequential(
                nn.Linear(channels, width, bias=False),
                nn.ReLU(),
                nn.Linear(width, width, bias=False),
                nn.ReLU(),
                nn.Linear(width, width, bias=False),
            ).to(device)

    def add_to(
        self,
        terms: StepTerms,
        model: SegmentationModel,
        output: QueryOutput,
        pixels: Tensor,
        annotated: Batch,
        pseudo: Batch | None,
        step: int,
    ) -> None:
        """Compute the term and put it, and its diagnostics, beside the others.

        Args:
            terms: of this step; receives `pxl`.
            model: in training mode.
            output: its predictions on the weak views.
            pixels: the weak views, [B, 3, H, W].
            annotated: the first images of `pixels`.
            pseudo: the others, if any.
            step: counted from 0.
        """
        content = annotated.content + (pseudo.content if pseudo else [])
        places = places_of(annotated, pseudo)
        features = output.encoder_levels[self.config.feature_level]
        size = (features.shape[2], features.shape[3])
        shown = _cells_inside(content, (pixels.shape[2], pixels.shape[3]), size).to(pixels.device)
        with torch.no_grad(), _frozen_statistics(model):
            views = strong_views(pixels, content, model.input, self.config.strong_view, self._seed, step, places)
            strong_features = model.encode(views)[self.config.feature_level]
        weak = self._embed(features, shown)
        with torch.set_grad_enabled(not self.config.fully_detached_strong):
            strong = self._embed(strong_features, shown)
        y, query = fused_map(output.class_logits[-1], output.mask_logits[-1], size, self.config.negatives)
        image = torch.tensor(places, device=pixels.device)[:, None].expand_as(shown)
        instance = instance_map(annotated.masks, len(content), size).to(pixels.device)
        temperature = temperature_at(self.config.temperature, step, self._iterations)
        cells = _Cells(weak, y[shown], image[shown], query[shown], instance[shown])
        if group.world() > 1 and not self.config.per_process:
            cells = _of_all(cells)
        contrast = self._loss(cells.weak, strong, cells.y, cells.image, temperature, cells.own)
        terms.losses["pxl"] = self._weight * contrast.loss
        terms.figures |= contrast_figures(contrast, cells.query, cells.instance)
        terms.figures["contrast_temperature"] = temperature

    def _embed(self, features: Tensor, shown: Tensor) -> Tensor:
        """Project the shown cells of a map [B, E, h, w] to unit vectors [V, D]."""
        cells = features.flatten(2).transpose(1, 2)[shown]
        return functional.normalize(self.projector(cells).float(), dim=-1)


@dataclass
class _Cells:
    """What the loss compares: a row each of V cells.

    Attributes:
        weak: embeddings.
        y: see `fused_map`.
        image: place of the image in the batch.
        query: most likely one.
        instance: annotated one, or -1.
        own: which of them are this process's; None for all.
    """

    weak: Tensor
    y: Tensor
    image: Tensor
    query: Tensor
    instance: Tensor
    own: Tensor | None = None


def _of_all(cells: _Cells) -> _Cells:
    """Return the cells of all processes in the order that they would have in a single one."""
    before = group.share(int(cells.instance.amax()) + 1 if len(cells.instance) else 0).first
    numbered = torch.where(cells.instance >= 0, cells.instance + before, -1)
    owner = torch.full_like(cells.image, group.rank())
    image = group.gathered(cells.image)
    order = image.argsort(stable=True)
    weak, y, query, instance, owner = (
        group.gathered(column)[order] for column in (cells.weak, cells.y, cells.query, numbered, owner)
    )
    own = (owner == group.rank()).nonzero()[:, 0]
    return _Cells(weak, y, image[order], query, instance, own)


def places_of(annotated: Batch, pseudo: Batch | None = None) -> list[int]:
    """Return the places of a step's images in the batch of all processes: the annotated ones, then the others."""
    own = [annotated.first + row for row in range(len(annotated.labels))]
    if pseudo is None:
        return own
    before = group.world() * len(annotated.labels)
    return own + [before + pseudo.first + row for row in range(len(pseudo.labels))]


def instance_map(masks: Sequence[Tensor], images: int, size: tuple[int, int]) -> Tensor:
    """Return which annotated instance the centre of each cell shows, numbered through the batch.

    Args:
        masks: of the annotated images, which come first, each [n, H, W]; where masks overlap, the first one counts.
        images: of the batch.
        size: (h, w) in cells.

    Returns:
        [images, h * w] int64; -1 where there is no annotated instance.
    """
    found = torch.full((images, size[0] * size[1]), -1, dtype=torch.int64)
    first = 0
    for image, mask in enumerate(masks):
        if len(mask):
            rows, columns = (
                ((torch.arange(cells) + 0.5) * side / cells).long()
                for cells, side in zip(size, mask.shape[1:], strict=True)
            )
            inside = mask.cpu()[:, rows][:, :, columns].flatten(1) > 0.5
            number = first + inside.int().argmax(0)
            found[image] = torch.where(inside.any(0), number, -1)
        first += len(mask)
    return found


def _cells_inside(content: list[tuple[int, int]], pixels: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """Return which cells of an h x w map lie in the image entirely, [B, h * w]."""
    shown = []
    for extent in content:
        rows, columns = (
            (torch.arange(cells) + 1) * side <= cells * inside
            for cells, side, inside in zip(size, pixels, extent, strict=True)
        )
        shown.append((rows[:, None] & columns[None]).flatten())
    return torch.stack(shown)


def _channels(model: SegmentationModel, level: int) -> int:
    training = model.training
    model.eval()
    with torch.no_grad():
        probe = torch.zeros(1, 3, model.input.height, model.input.width, device=next(model.parameters()).device)
        levels = model.encode(probe)
    model.train(training)
    if not -len(levels) <= level < len(levels):
        raise ConfigError(f"contrast.feature_level is {level}, but the encoder has {len(levels)} levels (0 the finest)")
    return levels[level].shape[1]


@contextmanager
def _frozen_statistics(model: nn.Module) -> Iterator[None]:
    """Let batch normalisation use the batch's statistics without remembering them: strong views are never deployed."""
    layers = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.momentum = 0.0
    try:
        yield
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
