"""The training curves of a run, as charts: validation first, then the loss, then every other logged figure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from sskd_core.config.teaching import REASONS
from sskd_core.errors import IntegrityError
from sskd_core.reporting.charts import MAX_POINTS, Chart, Points, Series, line_chart
from sskd_core.reporting.results import Read
from sskd_core.storage.manifest import Manifest

_VALIDATION, _LOSS = "val/mask_ap", "loss/total"
_STEP = "iteration"
_TOGETHER = {
    "Similarity of pixels": ("cosine", {"contrast_positive": "positive", "contrast_negative": "negative"}),
    "False negatives": (
        "share of the negatives",
        {"contrast_fnr_pred": "by prediction", "contrast_fnr_truth": "by annotation"},
    ),
    "Queries that gave no pseudo-label": (
        "queries an image",
        {f"rejected_{reason}_per_image": reason.replace("_", " ") for reason in REASONS},
    ),
    "Margin between positives and negatives": ("cosine", {"contrast_margin": "margin"}),
}
"""Figures that belong together: chart -> (unit, figure -> name)."""


@dataclass(frozen=True)
class NodeCurves:
    """What one training node logged.

    Attributes:
        node: its name.
        series: name -> points.
        best: iteration whose weights were delivered, if they were chosen on val.
    """

    node: str
    series: dict[str, Points]
    best: int | None


def read_curves(manifests: Mapping[str, Manifest], read: Read) -> list[NodeCurves]:
    """Read the curves of all nodes that trained.

    Args:
        manifests: by node, in the order of the pipeline.
        read: returns the verified bytes of an output.

    Raises:
        IntegrityError: an output called `curves` holds none.
    """
    found = []
    for node, manifest in manifests.items():
        if not manifest.outputs_like("curves"):
            continue
        ref = manifest.output("curves")
        try:
            series = _series(read(ref))
        except (ValueError, TypeError, KeyError, AttributeError):
            raise IntegrityError(f"{ref.uri}: holds no curves (series of [step, value] pairs)") from None
        chosen = manifest.config.get("train", {}).get("select") == "best"
        found.append(NodeCurves(node, series, manifest.facts.get("best_iteration") if chosen else None))
    return found


def _series(data: bytes) -> dict[str, Points]:
    return {name: [(float(x), float(y)) for x, y in points] for name, points in json.loads(data)["series"].items()}


def overview(curves: list[NodeCurves]) -> list[Chart]:
    """Return the charts that compare the nodes: validation AP and loss."""
    validation = [Series(item.node, item.series.get(_VALIDATION, []), item.best) for item in curves]
    loss = [Series(item.node, item.series.get(_LOSS, [])) for item in curves]
    ringed = "A ring marks the weights that were delivered." if any(item.best is not None for item in curves) else ""
    charts = [
        line_chart("Validation", validation, _STEP, "mask AP on val (points)", ringed),
        line_chart("Training loss", loss, _STEP, "total loss"),
    ]
    return [chart for chart in charts if chart is not None]


def details(curves: list[NodeCurves]) -> dict[str, list[Chart]]:
    """Return, by node, charts of all else that was logged: loss terms and diagnostics together, other figures alone."""
    return {item.node: charts for item in curves if (charts := _details_of(item))}


def _details_of(item: NodeCurves) -> list[Chart]:
    terms = [
        Series(name.removeprefix("loss/"), points)
        for name, points in item.series.items()
        if name.startswith("loss/") and name != _LOSS
    ]
    grouped = {name for _, members in _TOGETHER.values() for name in members}
    others = sorted(
        name for name in item.series if not name.startswith("loss/") and name != _VALIDATION and name not in grouped
    )
    long = any(len(points) > MAX_POINTS for points in item.series.values())
    note = f"Means of neighbouring points, {MAX_POINTS} in all." if long else ""
    charts = [line_chart("Loss terms", terms, _STEP, "loss, weighted", note)]
    for title, (unit, members) in _TOGETHER.items():
        series = [Series(label, item.series[name]) for name, label in members.items() if name in item.series]
        charts.append(line_chart(title, series, _STEP, unit, note))
    for name in others:
        label = name.replace("_", " ").replace("/", " ")
        charts.append(line_chart(label.capitalize(), [Series(label, item.series[name])], _STEP, label, note))
    return [chart for chart in charts if chart is not None]
