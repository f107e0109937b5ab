"""`report.html`: one self-contained page about one run, read from its manifests and what they name."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jinja2
import yaml
from markupsafe import Markup

from sskd_core.labels.statistics import LabelStatistics
from sskd_core.reporting.charts import bar_chart, line_chart
from sskd_core.reporting.graph import lineage_graph
from sskd_core.reporting.results import MODELS, Results
from sskd_core.storage.manifest import Manifest, ObjectRef

_TEMPLATES = Path(__file__).parent / "templates"
_TRAINING = {
    "adapt_teacher": "teacher, labels",
    "self_train_teacher": "teacher, self-training",
    "train_supervised": "student, supervised",
    "distill": "student, distilled",
    "refine": "student, refined",
}
_LABELLING = {"pseudo_label": "Round 1, by the teacher adapted on labels", "relabel": "Round 2, by the final teacher"}
Read = Callable[[ObjectRef], bytes]


def render_report(results: Results, manifests: Mapping[str, Manifest], read: Read) -> str:
    """Render the page.

    Args:
        results: the figures.
        manifests: by node, in the order of the pipeline; missing ones leave a note and no section.
        read: returns the verified bytes of an output.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    return environment.get_template("report.html.j2").render(
        results=results,
        labels=MODELS,
        summary=summary(results),
        per_class=_per_class(manifests, read),
        overlays=[_data_uri(ref, read) for ref in _outputs(manifests, "evaluate", "overlays/")],
        charts=[Markup(chart) for chart in _curves(manifests, read) if chart],  # noqa: S704  built by us, escaped there
        rounds=_rounds(manifests, read),
        time_chart=_bars("compute time per stage", {n: s.seconds for n, s in results.stages.items()}, "s"),
        memory_chart=_bars("peak memory per stage", {n: s.peak_memory_mb for n, s in results.stages.items()}, "MiB"),
        graph=Markup(lineage_graph(manifests)),  # noqa: S704  built by us, escaped there
        configuration=yaml.safe_dump({n: m.config for n, m in manifests.items()}, sort_keys=False, width=110),
    )


def summary(results: Results) -> str:
    """Say in one or two sentences what came out."""
    models = results.models
    if "refined_student" not in models:
        return "The run did not reach its evaluation; what was finished is below."
    student, teacher = models["refined_student"], models["adapted_teacher"]
    text = (
        f"The refined student has {student.parameters / 1e6:.2f} M parameters, "
        f"{student.parameters / teacher.parameters:.0%} of its teacher's, and reaches {student.mask_ap:.1f} mask AP on "
        f"{results.split}: {student.mask_ap - models['zero_shot_teacher'].mask_ap:+.1f} against the zero-shot teacher, "
        f"{student.mask_ap - teacher.mask_ap:+.1f} against the adapted teacher, "
        f"{student.mask_ap - models['supervised_student'].mask_ap:+.1f} against the same student without unlabelled images."
    )
    if results.verdict is not None:
        text += (
            f" The gate passed and the alias {results.alias} moved."
            if results.verdict["passed"]
            else " The gate did not pass; no alias moved."
        )
    return text


def _outputs(manifests: Mapping[str, Manifest], node: str, prefix: str) -> list[ObjectRef]:
    return manifests[node].outputs_like(prefix) if node in manifests else []


def _data_uri(ref: ObjectRef, read: Read) -> str:
    return f"data:{ref.media_type};base64,{base64.b64encode(read(ref)).decode()}"


def _bars(title: str, values: Mapping[str, float], unit: str) -> Markup:
    return Markup(bar_chart(title, values, unit))  # noqa: S704  built by us, escaped there


def _per_class(manifests: Mapping[str, Manifest], read: Read) -> dict[str, dict[str, float | None]]:
    """Return class -> model -> AP."""
    if "evaluate" not in manifests:
        return {}
    document = json.loads(read(manifests["evaluate"].output("evaluation")))
    rows: dict[str, dict[str, float | None]] = {}
    for model, result in document["models"].items():
        for name, value in result["per_class"].items():
            rows.setdefault(name, {})[model] = value
    return rows


def _curves(manifests: Mapping[str, Manifest], read: Read) -> list[str]:
    series: dict[str, dict[str, Any]] = {
        label: json.loads(read(manifests[node].output("curves")))["series"]
        for node, label in _TRAINING.items()
        if node in manifests
    }

    def pick(name: str, role: str) -> dict[str, Any]:
        return {label: curves[name] for label, curves in series.items() if label.startswith(role) and name in curves}

    return [
        line_chart("validation mask AP, teacher", pick("val/mask_ap", "teacher"), "iteration", "val mask AP"),
        line_chart("validation mask AP, student", pick("val/mask_ap", "student"), "iteration", "val mask AP"),
        line_chart("training loss, teacher", pick("loss/total", "teacher"), "iteration", "loss"),
        line_chart("training loss, student", pick("loss/total", "student"), "iteration", "loss"),
    ]


def _rounds(manifests: Mapping[str, Manifest], read: Read) -> list[dict[str, Any]]:
    rounds = []
    for node, title in _LABELLING.items():
        if node in manifests:
            manifest = manifests[node]
            statistics = LabelStatistics.model_validate_json(read(manifest.output("statistics")))
            rounds.append(
                {
                    "title": title,
                    "statistics": statistics,
                    "drift": manifest.metrics.get("class_drift"),
                    "histogram": _bars(f"{title}: instances per class", statistics.class_histogram, ""),
                    "sheet": _data_uri(manifest.output("sheet"), read),
                }
            )
    return rounds
