"""Learning from annotations and stored pseudo-labels: the teacher's self-training and the student's distillation."""

from __future__ import annotations

import torch

from sskd_core.data.loader import BatchLoader
from sskd_core.losses.set_criterion import SetCriterion
from sskd_core.models.protocol import SegmentationModel
from sskd_core.strategies.base import StepTerms, Strategy, targets_of, total
from sskd_core.strategies.contrast import ContrastTerm


class SemiSupervised(Strategy):
    """J = L_sup + lambda_semi * L_semi + lambda_pxl * L_pxl, with the same set loss on hard pseudo-instances.

    Both halves of the batch go through one forward pass. Each half is normalised by its own number of instances, so
    lambda_semi weighs the two sets against each other whatever their sizes.

    Args:
        labeled: batches with annotations.
        unlabeled: batches with pseudo-labels.
        criterion: the set loss.
        lambda_semi: weight of the pseudo-label term.
        contrast: the contrastive term, if there is one.
    """

    def __init__(
        self,
        labeled: BatchLoader,
        unlabeled: BatchLoader,
        criterion: SetCriterion,
        lambda_semi: float,
        contrast: ContrastTerm | None = None,
    ) -> None:
        self._labeled = labeled
        self._unlabeled = unlabeled
        self._criterion = criterion
        self._lambda_semi = lambda_semi
        self.extra = self._contrast = contrast

    def step(self, model: SegmentationModel, step: int) -> StepTerms:
        """Compute the supervised, the pseudo-label and the contrastive terms."""
        labeled, unlabeled = self._labeled.batch(step), self._unlabeled.batch(step)
        device = next(model.parameters()).device
        pixels = torch.cat([labeled.pixels, unlabeled.pixels]).to(device)
        output = model(pixels)
        split = len(labeled.labels)
        supervised = self._criterion(output.rows(slice(None, split)), targets_of(labeled, device))
        pseudo = self._criterion(output.rows(slice(split, None)), targets_of(unlabeled, device))
        losses = {f"sup_{name}": value for name, value in supervised.items()}
        losses |= {f"semi_{name}": self._lambda_semi * value for name, value in pseudo.items()}
        ratio = total(pseudo) / total(supervised).clamp_min(1e-9)
        terms = StepTerms(
            losses,
            {
                "pseudo_instances_per_image": unlabeled.instances / len(unlabeled.labels),
                "semi_to_sup_ratio": ratio,
            },
        )
        if self._contrast is not None:
            self._contrast.add_to(terms, model, output, pixels, labeled, unlabeled, step)
        return terms

    def close(self) -> None:
        """Release both loaders."""
        self._labeled.close()
        self._unlabeled.close()
