"""A teacher labels the weak view of an unlabelled crop inside the step; the student learns from its strong view.

The state machine of Guided Distillation and of the strategies that it is compared with; `config/teaching.py` says which
settings make which. Shape letters as in `models/protocol.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor

from sskd_core.config.teaching import TeachingConfig
from sskd_core.data.loader import Batch, BatchLoader
from sskd_core.data.strong_view import strong_views
from sskd_core.distributed import group
from sskd_core.labels.online import OnlineFilter
from sskd_core.losses.set_criterion import SetCriterion, Target
from sskd_core.models.protocol import SegmentationModel
from sskd_core.strategies.base import Part, StepTerms, Strategy, Validate, targets_of, total
from sskd_core.strategies.contrast import places_of
from sskd_core.strategies.teacher import OnlineTeacher


class Labeller(Protocol):
    """Says what is on the unlabelled images of a step."""

    def label(self, batch: Batch, pixels: Tensor, step: int) -> tuple[list[Target], dict[str, float | Tensor]]:
        """Return the pseudo-instances of each image, and figures for the log.

        Args:
            batch: weak views.
            pixels: those of `batch`, on the device.
            step: counted from 0.
        """
        ...


class StoredLabels:
    """Pseudo-labels that an earlier stage wrote: they come with the batch."""

    def label(self, batch: Batch, pixels: Tensor, step: int) -> tuple[list[Target], dict[str, float | Tensor]]:
        """Return the batch's own instances."""
        return targets_of(batch, pixels.device), {}


class TeachersLabels:
    """Pseudo-labels that the teacher makes from the weak view.

    Args:
        teacher: who labels.
        keep: the rules that its queries must pass.
        prior: [C] share of each class among the annotated instances; None when there is none.
    """

    def __init__(self, teacher: OnlineTeacher, keep: OnlineFilter, prior: Tensor | None = None) -> None:
        self._teacher, self._keep, self._prior = teacher, keep, prior

    def label(self, batch: Batch, pixels: Tensor, step: int) -> tuple[list[Target], dict[str, float | Tensor]]:
        """Label the batch; see `Labeller`.

        Raises:
            UserError: the teacher has been silent for too long.
        """
        found = self._keep(self._teacher.predict(pixels))
        # The teacher speaks for the batch of all processes.
        self._teacher.listen(group.share(found.instances).total, found.best_scores, step)
        images = len(found.targets)
        figures: dict[str, float | Tensor] = {
            f"rejected_{reason}_per_image": count / images for reason, count in found.rejected.items()
        }
        figures["empty_masks_per_image"] = found.empty_masks / images
        figures["images_without_pseudo_label"] = sum(not len(item.labels) for item in found.targets) / images
        figures["best_teacher_score"] = found.best_scores.mean()
        if self._prior is not None and found.instances:
            counts = torch.bincount(torch.cat([item.labels for item in found.targets]), minlength=len(self._prior))
            shares = counts / found.instances
            figures["class_drift"] = (shares - self._prior.to(shares.device)).abs().sum() / 2
        return found.targets, figures


class TeacherStudent(Strategy):
    """J = L_sup + lambda_u * L_unsup, each the set loss of a forward pass of its own.

    The annotated images go first and are back-propagated before the others are looked at: the same gradient, with the
    activations of one pass in memory.

    Args:
        labeled: batches with annotations.
        unlabeled: batches of the images that the teacher labels, or with stored labels; None if none is ever used.
        criterion: the set loss.
        config: the state machine.
        labeller: where the pseudo-labels come from.
        teacher: the online teacher; None with stored labels.
        seed: the run's seed, for the strong views.
    """

    def __init__(
        self,
        labeled: BatchLoader,
        unlabeled: BatchLoader | None,
        criterion: SetCriterion,
        config: TeachingConfig,
        labeller: Labeller,
        teacher: OnlineTeacher | None,
        seed: int,
    ) -> None:
        self._labeled, self._unlabeled, self._criterion = labeled, unlabeled, criterion
        self._config, self._labeller, self._seed = config, labeller, seed
        self.memory = self._teacher = teacher
        self._supervised = torch.zeros(())

    def parts(self, model: SegmentationModel, step: int) -> Sequence[Part]:
        """Write the teacher, then return the labelled pass and, where it weighs anything, the unlabelled one."""
        if self._teacher is not None:
            self._teacher.write(model, step)
        parts: list[Part] = [partial(self._labeled_part, model, step)]
        weight = self.weight(step)
        if weight:
            parts.append(partial(self._unlabeled_part, model, step, weight))
        return parts

    def weight(self, step: int) -> float:
        """Return lambda_u of an iteration, counted from 0."""
        config = self._config
        switched = self._teacher is None or self._teacher.switched(step)
        weight = config.lambda_u if switched or config.burn_in_lambda_u is None else config.burn_in_lambda_u
        return weight * min(1.0, (step + 1) / config.ramp_iterations) if config.ramp_iterations else weight

    def validated(self, step: int, score: float, validate: Validate) -> None:
        """End an `auto` burn-in as soon as the student is as good on val as its teacher."""
        teacher = self._teacher
        if teacher is not None and teacher.waits:
            known = teacher.own_score
            teacher.compare(step, score, validate(teacher.network) if known is None else known)

    def facts(self) -> dict[str, Any]:
        """Return at which iteration the burn-in ended: null if it did not, or there was none to end."""
        if self._teacher is None:
            return {}
        switched_at = None if self._teacher.waits else int(self._teacher.switch_at)
        return {"switched_at": switched_at, "teacher_val_mask_ap": self._teacher.own_score}

    def close(self) -> None:
        """Release the loaders."""
        self._labeled.close()
        if self._unlabeled is not None:
            self._unlabeled.close()

    def _labeled_part(self, model: SegmentationModel, step: int) -> StepTerms:
        batch = self._labeled.batch(step)
        device = next(model.parameters()).device
        losses = self._criterion(model(batch.pixels.to(device)), targets_of(batch, device))
        self._supervised = total(losses)
        return StepTerms({f"sup_{name}": value for name, value in losses.items()})

    def _unlabeled_part(self, model: SegmentationModel, step: int, weight: float) -> StepTerms:
        assert self._unlabeled is not None
        batch = self._unlabeled.batch(step)
        pixels = batch.pixels.to(next(model.parameters()).device)
        targets, figures = self._labeller.label(batch, pixels, step)
        losses = self._criterion(model(self._students_view(model, pixels, batch, step)), targets)
        figures["pseudo_instances_per_image"] = sum(len(item.labels) for item in targets) / len(targets)
        figures["semi_to_sup_ratio"] = total(losses) / self._supervised.clamp_min(1e-9)
        figures["lambda_u"] = weight
        figures["burn_in_over"] = float(self._teacher is None or self._teacher.switched(step))
        return StepTerms({f"semi_{name}": weight * value for name, value in losses.items()}, figures)

    def _students_view(self, model: SegmentationModel, pixels: Tensor, batch: Batch, step: int) -> Tensor:
        """Return what the student sees of the teacher's crops, pixel for pixel aligned with them."""
        config = self._config
        if config.view == "same":
            return pixels
        erase = config.view == "cutout"
        places = places_of(batch)
        return strong_views(pixels, batch.content, model.input, config.strong_view, self._seed, step, places, erase)
