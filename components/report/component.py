"""The component `report`, a pipeline's last task whatever became of the others."""

from typing import Any

from kfp.dsl import HTML, Artifact, Markdown, Output, PipelineTaskFinalStatus

from components.base import stage_component, with_form
from sskd_core.config.parameters import LOCATING


@stage_component
@with_form(LOCATING, ask="all")
def report(
    run_id: str,
    status: PipelineTaskFinalStatus,
    manifest: Output[Artifact],
    page: Output[HTML],
    summary: Output[Markdown],
    **form: Any,
) -> None:
    """Report on the run, finished or not, from what stands in the store.

    Args:
        run_id: Id of the run.
        status: How the run ended.

    Returns:
        manifest: The manifest of the report; empty when the run never began.
        page: The report.
        summary: The report in a few lines.
    """
    from sskd_core.stages.ends import run_report

    problem = status.error_message or ""
    run_report(form, run_id, status.state, problem, manifest.path, page.path, summary.path)
