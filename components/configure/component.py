"""The component `configure`."""

from typing import Any

from kfp.dsl import Markdown, Output, OutputPath

from components.base import stage_component, with_form
from sskd_core.config.parameters import EVERY_PARAMETER


@stage_component
@with_form(EVERY_PARAMETER, ask="some")
def configure(
    run_id: str,
    secrets: dict,  # type: ignore[type-arg]
    resolved: OutputPath(str),  # type: ignore[valid-type]
    plan: Output[Markdown],
    **form: Any,
) -> list:  # type: ignore[type-arg]
    """Check parameters, secrets and services, fix what data and weights are, and say what will be done.

    Args:
        run_id: Id of the run.
        secrets: Environment variable and the `secret/key` that it is to come from.

    Returns:
        resolved: The experiment as JSON text, with the digests of data and weights.
        plan: What will be done.
        Output: The numbers of the labelling workers.
    """
    from sskd_core.stages.ends import run_configure

    return run_configure(form, run_id, secrets, resolved, plan.path)
