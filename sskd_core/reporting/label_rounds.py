"""The pseudo-labels of a run, a round at a time: figures, classes against the labelled images, contact sheet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import ValidationError

from sskd_core.errors import IntegrityError
from sskd_core.labels.statistics import LabelStatistics
from sskd_core.reporting.charts import Chart, histogram
from sskd_core.reporting.pictures import data_uri
from sskd_core.reporting.results import Read
from sskd_core.storage.manifest import Manifest, ObjectRef

_BINS = 40


@dataclass(frozen=True)
class ClassShare:
    """How often a class occurs.

    Attributes:
        name: of the class.
        found: pseudo-labels of it.
        share: of all pseudo-labels, 0..1.
        labeled_share: of all objects on the labelled images; None when they are not known.
    """

    name: str
    found: int
    share: float
    labeled_share: float | None


@dataclass(frozen=True)
class LabelRound:
    """One labelling node.

    Attributes:
        node: its name.
        teacher: node whose network labelled, if its manifest is there.
        statistics: figures of all shards.
        drift: total-variation distance to the classes of the labelled images.
        classes: shares, in the order of the class list.
        scores: histogram of the kept scores.
        sheet: contact sheet as a data URI.
    """

    node: str
    teacher: str | None
    statistics: LabelStatistics
    drift: float | None
    classes: list[ClassShare]
    scores: Chart | None
    sheet: str

    @property
    def largest_share(self) -> float:
        """The longest bar of the class table; 1 without any label."""
        return max((value for item in self.classes for value in (item.share, item.labeled_share or 0)), default=0) or 1


def read_rounds(manifests: Mapping[str, Manifest], read: Read) -> list[LabelRound]:
    """Read all labelling rounds.

    Args:
        manifests: by node, in the order of the pipeline.
        read: returns the verified bytes of an output.

    Raises:
        IntegrityError: statistics or sheet are not what the labelling stage writes.
    """
    owners = {manifest.fingerprint: node for node, manifest in manifests.items()}
    labeled = manifests["prepare"].facts.get("class_histogram", {}) if "prepare" in manifests else {}
    rounds = []
    for node, manifest in manifests.items():
        if manifest.stage != "pseudo_label":
            continue
        statistics = _statistics(manifest.output("statistics"), read)
        rounds.append(
            LabelRound(
                node=node,
                teacher=owners.get(str(manifest.facts.get("labeller"))),
                statistics=statistics,
                drift=manifest.metrics.get("class_drift"),
                classes=class_shares(statistics.class_histogram, labeled),
                scores=_scores(statistics),
                sheet=data_uri(manifest.output("sheet"), read),
            )
        )
    return rounds


def class_shares(found: Mapping[str, int], labeled: Mapping[str, int]) -> list[ClassShare]:
    """Compare two class histograms, class -> count."""
    total, expected = sum(found.values()), sum(labeled.values())
    return [
        ClassShare(
            name=name,
            found=count,
            share=count / total if total else 0.0,
            labeled_share=labeled.get(name, 0) / expected if expected else None,
        )
        for name, count in found.items()
    ]


def _statistics(ref: ObjectRef, read: Read) -> LabelStatistics:
    try:
        return LabelStatistics.model_validate_json(read(ref))
    except ValidationError as error:
        raise IntegrityError(f"{ref.uri}: not label statistics: {error.errors()[0]['msg']}") from None


def _scores(statistics: LabelStatistics) -> Chart | None:
    fine = statistics.score_histogram
    width = len(fine) // _BINS
    coarse = [sum(fine[start : start + width]) for start in range(0, len(fine), width)]
    return histogram("Scores of the kept pseudo-labels", coarse, 0.0, 1.0, "score (0 to 1)", "pseudo-labels")
