"""The `report` stage: `results.json` and `report.html` of a whole run, from its manifests. Drawn anew by every run."""

from __future__ import annotations

from collections.abc import Mapping

from sskd_core.config.experiment import NODES, ExperimentConfig
from sskd_core.reporting.html import render_report
from sskd_core.reporting.results import gather
from sskd_core.stages.contract import StageContext, StageResult
from sskd_core.storage.manifest import Manifest


def run(config: ExperimentConfig, inputs: Mapping[str, Manifest], context: StageContext) -> StageResult:
    """Write the report.

    Args:
        config: the whole experiment.
        inputs: manifests by node; nodes that did not finish are missing, and the report says so.
        context: see `StageContext`.
    """
    results = gather(config.name, config.seed, [node.name for node in NODES], inputs)
    page = render_report(results, inputs, context.store.read)
    store, prefix = context.store, context.prefix
    document = results.model_dump_json(indent=2).encode()
    return StageResult(
        outputs=[
            store.put_output("results", f"{prefix}/results.json", document, "application/json"),
            store.put_output("report", f"{prefix}/report.html", page.encode(), "text/html"),
        ]
    )
