"""The MLflow run that a pipeline server has opened, as it tells its tasks.

KFP opens a run of the pipeline and gives its tasks `KFP_MLFLOW_CONFIG`; a task's own run, `MLFLOW_RUN_ID`, only where
an operator has asked for it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass

from sskd_core.errors import UserError

RUN_VARIABLE = "MLFLOW_RUN_ID"
CONFIG_VARIABLE = "KFP_MLFLOW_CONFIG"


@dataclass(frozen=True)
class PlatformRun:
    """What the platform has opened.

    Attributes:
        run_id: of this task; None when there is only one of the pipeline.
        parent_id: of the pipeline; None when only the task's is known.
        experiment_id: of both; None when unknown.
        uri: of the server; None for that of the environment.
        workspace: of the server, where it has such.
    """

    run_id: str | None
    parent_id: str | None = None
    experiment_id: str | None = None
    uri: str | None = None
    workspace: str | None = None


def platform_run(environment: Mapping[str, str] = os.environ) -> PlatformRun | None:
    """Return the run that the platform has opened for this process, or None.

    Raises:
        UserError: the platform's description of it cannot be read.
    """
    run_id = environment.get(RUN_VARIABLE) or None
    text = environment.get(CONFIG_VARIABLE)
    if not text:
        return PlatformRun(run_id) if run_id else None
    try:
        values = json.loads(text)
        return PlatformRun(
            run_id,
            parent_id=str(values["parentRunId"]),
            experiment_id=str(values["experimentId"]),
            uri=str(values["endpoint"]),
            workspace=str(values["workspace"]) if values.get("workspacesEnabled") else None,
        )
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{CONFIG_VARIABLE} is not what a pipeline server writes ({type(error).__name__}: {error}); "
            "set tracking.mode: own or off"
        ) from None
