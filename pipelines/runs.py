"""Looking at the runs of a KFP server: which there are, how one stands, and what its tasks printed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import kfp_server_api

from pipelines.server import Server
from sskd_core.errors import UserError

_FAILED = ("FAILED", "SYSTEM_ERROR")


def listed(server: Server, limit: int) -> list[dict[str, Any]]:
    """Return the newest runs.

    Raises:
        UserError: no answer, or a refusal.
    """
    runs = kfp_server_api.RunServiceApi(server.client)
    space = {"namespace": server.namespace} if server.namespace else {}
    found = server.ask(runs.run_service_list_runs, page_size=limit, sort_by="created_at desc", **space)
    return [_summary(run) for run in found.runs or []]


def shown(server: Server, run_id: str) -> dict[str, Any]:
    """Return one run with its tasks and parameters.

    Raises:
        UserError: no such run, no answer, or a refusal.
    """
    run = _run(server, run_id)
    tasks = [
        {
            "task": task.display_name,
            "state": task.state,
            "started": _time(task.start_time),
            "ended": _time(task.end_time),
            "error": _error(task),
        }
        for task in _tasks(run)
    ]
    parameters = run.runtime_config.parameters if run.runtime_config else {}
    return {**_summary(run), "parameters": parameters, "tasks": tasks}


def logs(server: Server, run_id: str, name: str | None) -> Iterator[str]:
    """Yield what tasks of a run printed, a line at a time.

    Args:
        server: which has the run.
        run_id: its id.
        name: of one task; None for those that failed.

    Raises:
        UserError: no such run or task, no pod to read from, no answer, or a refusal.
    """
    tasks = _tasks(_run(server, run_id))
    wanted = [task for task in tasks if (task.display_name == name if name else task.state in _FAILED)]
    if not wanted:
        known = ", ".join(dict.fromkeys(str(task.display_name) for task in tasks)) or "none yet"
        problem = f"run {run_id} has no task '{name}'" if name else f"no task of run {run_id} has failed"
        raise UserError(f"{problem}; its tasks are: {known}; name one: --task")
    for task in wanted:
        for pod in _pods(task):
            yield f"==> {task.display_name} ({pod})\n"
            yield from _log(server, run_id, pod)


def _run(server: Server, run_id: str) -> Any:
    runs = kfp_server_api.RunServiceApi(server.client)
    return server.ask(runs.run_service_get_run, run_id=run_id)


def _tasks(run: Any) -> list[Any]:
    """Return the tasks that run our code, in the order in which they started."""
    details = run.run_details.task_details if run.run_details else None
    # The server also lists the pods that prepare a task, and the graph itself.
    own = [task for task in details or [] if task.display_name and _is_ours(task)]
    return sorted(own, key=lambda task: str(task.start_time or task.create_time))


def _is_ours(task: Any) -> bool:
    name = str(task.display_name)
    return not name.endswith("-driver") and name not in ("root", "executor") and bool(_pods(task))


def _pods(task: Any) -> list[str]:
    children = [child.pod_name for child in task.child_tasks or [] if child.pod_name]
    return [task.pod_name] if task.pod_name else children


def _log(server: Server, run_id: str, pod: str) -> Iterator[str]:
    # The one endpoint that the generated client does not have.
    answer = server.ask(
        server.client.call_api,
        resource_path="/apis/v1alpha1/runs/{run_id}/nodes/{node_id}/log",
        method="GET",
        path_params={"run_id": run_id, "node_id": pod},
        query_params=[],
        header_params={"Accept": "*/*"},
        auth_settings=["Bearer"],
        _return_http_data_only=True,
        _preload_content=False,
    )
    for line in answer.data.decode("utf-8", "replace").splitlines():
        yield f"{line}\n"


def _summary(run: Any) -> dict[str, Any]:
    return {
        "run": run.run_id,
        "name": run.display_name,
        "state": run.state,
        "created": _time(run.created_at),
        "finished": _time(run.finished_at),
        "error": _error(run),
    }


def _error(item: Any) -> str | None:
    return str(item.error.message).splitlines()[0] if item.error and item.error.message else None


def _time(value: Any) -> str | None:
    return None if value is None else value.isoformat()
