"""The `report` stage: `results.json` and `report.html` of a whole run, from its manifests. Drawn anew by every run."""

from __future__ import annotations

from collections.abc import Mapping

from sskd_core.config.experiment import ExperimentConfig
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

    Returns:
        Outputs `results` (JSON) and `report` (HTML).

    Raises:
        IntegrityError: something that a manifest names is not what its stage writes.
    """
    store, prefix = context.store, context.prefix
    results = gather(config, inputs, store.read)
    page = render_report(config, results, inputs, store.read)
    return StageResult(
        outputs=[
            store.put_output("results", f"{prefix}/results.json", results.to_bytes(), "application/json"),
            store.put_output("report", f"{prefix}/report.html", page.encode(), "text/html"),
        ]
    )
