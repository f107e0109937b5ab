"""Whether pseudo-labels are worth learning from; read from statistics alone.

A student trained on nothing, or on one class, wastes the hours that follow, so the run stops here and says
why, with the figures and the key to change.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sskd_core.config.label import PseudoLabelConfig
from sskd_core.errors import UserError
from sskd_core.labels.statistics import LabelStatistics

_KEY = "stages.pseudo_label"


@dataclass(frozen=True)
class LabelHealth:
    """The figures that were judged.

    Attributes:
        empty_rate: share of images without a pseudo-label.
        class_drift: total-variation distance, 0..1, between the class shares of the pseudo-labels and of the
            labelled images; None when there is no labelled instance to compare with.
    """

    empty_rate: float
    class_drift: float | None


def check_health(statistics: LabelStatistics, prior: Mapping[str, int], config: PseudoLabelConfig) -> LabelHealth:
    """Judge the pseudo-labels of a stage.

    Args:
        statistics: of all shards.
        prior: class name -> instances on the labelled images.
        config: the limits.

    Raises:
        UserError: no instance at all, too many empty images, or classes too far from the labelled ones.
    """
    if not statistics.instances:
        rejected = ", ".join(f"{reason} {count}" for reason, count in sorted(statistics.rejected.items()))
        raise UserError(
            f"no pseudo-label on any of {statistics.images} images: best candidate score "
            f"{statistics.best_score:.3f}, rejected: {rejected or 'nothing'}; lower {_KEY}.score_threshold "
            f"({config.score_threshold:g}) or train the teacher longer (stages.adapt_teacher.iterations)"
        )
    if statistics.empty_rate > config.max_empty_rate:
        raise UserError(
            f"{statistics.empty_images} of {statistics.images} images ({statistics.empty_rate:.1%}) have no "
            f"pseudo-label, more than {_KEY}.max_empty_rate ({config.max_empty_rate:g}) allows; lower "
            f"{_KEY}.score_threshold ({config.score_threshold:g}), or raise max_empty_rate if they are empty"
        )
    drift = class_drift(statistics.class_histogram, prior)
    if drift is not None and drift > config.max_class_drift:
        raise UserError(
            f"the classes of the pseudo-labels are {drift:.2f} (total variation) from the labelled ones, "
            f"more than {_KEY}.max_class_drift ({config.max_class_drift:g}) allows: "
            f"{_largest_shift(statistics.class_histogram, prior)}; set {_KEY}.class_thresholds for it, train "
            f"the teacher longer, or raise max_class_drift if the unlabelled images do differ"
        )
    return LabelHealth(empty_rate=statistics.empty_rate, class_drift=drift)


def class_drift(found: Mapping[str, int], prior: Mapping[str, int]) -> float | None:
    """Return the total-variation distance between two class histograms, None if one of them is empty."""
    if not sum(found.values()) or not sum(prior.values()):
        return None
    return sum(abs(shift) for shift in _shifts(found, prior).values()) / 2


def _shifts(found: Mapping[str, int], prior: Mapping[str, int]) -> dict[str, float]:
    """Return by how much the share of each class is larger in `found` than in `prior`."""
    all_found, all_prior = sum(found.values()), sum(prior.values())
    names = sorted(set(found) | set(prior))
    return {name: found.get(name, 0) / all_found - prior.get(name, 0) / all_prior for name in names}


def _largest_shift(found: Mapping[str, int], prior: Mapping[str, int]) -> str:
    shifts = _shifts(found, prior)
    name = max(shifts, key=lambda key: abs(shifts[key]))
    share, expected = found.get(name, 0) / sum(found.values()), prior.get(name, 0) / sum(prior.values())
    return f"'{name}' has {share:.1%} instead of {expected:.1%}"
