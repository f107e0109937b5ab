"""`report.html`: one self-contained page about one run, read from its manifests and what they name.

The page asks nobody for anything: no script, no font, no link that loads; its own content policy forbids them. Equal
inputs give equal bytes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
import yaml

from sskd_core.config.experiment import ExperimentConfig
from sskd_core.evaluation.delivered import drawn
from sskd_core.reporting import words
from sskd_core.reporting.curves import details, overview, read_curves
from sskd_core.reporting.label_rounds import read_rounds
from sskd_core.reporting.lineage import edges, lineage_picture
from sskd_core.reporting.pictures import data_uri
from sskd_core.reporting.results import MODELS, Read, Results
from sskd_core.storage.manifest import Manifest

TEMPLATES = Path(__file__).parent / "templates"
_ONNX_FIGURES = {
    "max_mask_logit_difference": ("Largest difference of a mask logit", "%.2e"),
    "max_class_logit_difference": ("Largest difference of a class logit", "%.2e"),
    "mask_ap_pytorch": ("Mask AP in PyTorch", "%.3f"),
    "mask_ap_onnx": ("Mask AP in onnxruntime", "%.3f"),
    "mask_ap_difference": ("Difference in mask AP", "%.3f"),
}
"""Figure of the export stage -> what it is called, and its format."""
_CREDENTIALS = re.compile(r"(?<=://)[^/@\s]+@")


def render_report(experiment: ExperimentConfig, results: Results, manifests: Mapping[str, Manifest], read: Read) -> str:
    """Render the page.

    Args:
        experiment: the whole run.
        results: what `gather` made of the same manifests.
        manifests: by node; what a missing one would have shown is left out, and the page says so.
        read: returns the verified bytes of an output.

    Raises:
        IntegrityError: an output is not what its stage writes.
    """
    curves = read_curves(manifests, read)
    # Bars are drawn relative to the longest; 1 stands in where there is none, or it is 0.
    highest_ap = max((item.mask_ap for item in results.models.values()), default=0.0) or 1.0
    slowest = max((item.seconds for item in results.stages.values()), default=0.0) or 1.0
    return (
        environment()
        .get_template("report.html.j2")
        .render(
            results=results,
            models={name: label for name, label in MODELS.items() if name in results.models},
            highest_ap=highest_ap,
            slowest=slowest,
            largest=results.peak_memory_mb or 1.0,
            per_class=per_class(results),
            summary=words.summary(results),
            finished=max((item.created for item in manifests.values()), default=None),
            overlays=[data_uri(ref, read) for ref in _outputs(manifests, "evaluate", "overlays/")],
            panels=[MODELS[name] for name in drawn(results.models)],
            charts=overview(curves),
            details=details(curves),
            rounds=read_rounds(manifests, read),
            onnx=next(iter(_outputs(manifests, "export_onnx", "onnx")), None),
            onnx_figures=_ONNX_FIGURES,
            lineage=lineage_picture(manifests, experiment.nodes),
            sources=_sources(experiment, manifests),
            codes=sorted({item.code_digest for item in manifests.values()}),
            configuration=_configuration(experiment),
        )
    )


def per_class(results: Results) -> list[tuple[str, list[float | None], float | None]]:
    """Return the rows of the class table: class, mask AP of each model, and the best of them."""
    models = list(results.models.values())
    names = dict.fromkeys(name for model in models for name in model.per_class)
    rows = [(name, [model.per_class.get(name) for model in models]) for name in names]
    return [(name, row, max((value for value in row if value is not None), default=None)) for name, row in rows]


def environment() -> jinja2.Environment:
    """Return what renders the templates of this package: strict, escaping, with the formats of `words` as filters."""
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    formats = (words.points, words.signed, words.difference, words.parameters, words.size, words.clock)
    made.filters |= {function.__name__: function for function in (*formats, words.short_digest)}
    return made


def _outputs(manifests: Mapping[str, Manifest], node: str, prefix: str) -> list[Any]:
    return manifests[node].outputs_like(prefix) if node in manifests else []


def _sources(experiment: ExperimentConfig, manifests: Mapping[str, Manifest]) -> dict[str, list[str]]:
    """Return the nodes that each node read."""
    read = edges(manifests, experiment.nodes)
    return {node.name: [edge.source for edge in read if edge.target == node.name] for node in experiment.nodes}


def _configuration(experiment: ExperimentConfig) -> str:
    text = yaml.safe_dump(experiment.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=100)
    return _CREDENTIALS.sub("…@", text)
