"""Running the pipeline on this machine: `kfp.local` starts every task as a subprocess with this Python.

Tasks run one after the other, labelling workers two at a time, and share their imports; `ahead.py` trains the baseline
beside them. KFP's own cache stays off: a stage that was done before says so itself. When the runner is told to stop it
lets the running stage save its state and begins no other.
"""

import os
import signal
import sys
import threading
import warnings
from pathlib import Path
from types import FrameType
from typing import Any

from kfp import local

from components.fork_server import serving
from pipelines.ahead import baseline_beside
from pipelines.cluster import ClusterConfig
from pipelines.methods import BUILDERS
from sskd_core.config.assemble import fill_in
from sskd_core.config.experiment import ExperimentConfig
from sskd_core.config.graph import BASELINE
from sskd_core.stages.component import EXIT_INTERRUPTED, STOP_VARIABLE
from sskd_core.stages.entry import SHARED_VARIABLE


def run_pipeline(experiment: ExperimentConfig, pipeline_root: Path) -> None:
    """Run the pipeline.

    Args:
        experiment: a validated experiment whose store is reachable.
        pipeline_root: folder for KFP's artifacts, which are manifests only.

    Raises:
        RuntimeError: a task failed; its own output says why.
    """
    # Said of every image that is not called 'python' and of every setting that only a cluster knows.
    warnings.filterwarnings("ignore", category=RuntimeWarning, module="kfp.local")
    warnings.filterwarnings("ignore", message=".*no effect in the current local runner.*")
    os.environ[SHARED_VARIABLE] = "1"
    # libgomp's threads spin for about a millisecond before they sleep. Beside another process that takes its core; and
    # without any spinning, small layers wait for threads to wake up. Some microseconds avoid both.
    os.environ.setdefault("GOMP_SPINCOUNT", "5000")
    local.init(local.SubprocessRunner(use_venv=False), pipeline_root=str(pipeline_root), raise_on_error=True)
    pipeline = BUILDERS[experiment.method](ClusterConfig())
    _stop_at_first_failure(pipeline.pipeline_spec)
    _leave_out_what_nobody_gives(pipeline.pipeline_spec)
    if experiment.trains_baseline_beside:
        _ask_last_for(BASELINE, pipeline.pipeline_spec)
    with serving(), baseline_beside(experiment, pipeline_root):
        pipeline(**fill_in(experiment))


def reported(pipeline_root: Path) -> Path | None:
    """Return the file that holds the report's manifest, or None if the run broke off before there was one."""
    return next(pipeline_root.glob("*/report/manifest"), None)


def run_to_exit_code(experiment: ExperimentConfig, pipeline_root: Path, manifest: Path) -> int:
    """Run the pipeline and copy the report's manifest to a known place.

    Returns:
        0, 1 when a task failed, 143 when it was stopped.
    """
    signal.signal(signal.SIGTERM, _stop)
    signal.signal(signal.SIGINT, _stop)
    code = 0
    try:
        run_pipeline(experiment, pipeline_root)
    except RuntimeError as error:
        print(error, file=sys.stderr)
        code = EXIT_INTERRUPTED if os.environ.get(STOP_VARIABLE) else 1
    written = reported(pipeline_root)
    if written is not None:
        manifest.write_bytes(written.read_bytes())
    return code


def _stop_at_first_failure(spec: Any) -> None:
    """Take back the retries: here nobody evicts a task, so one that failed would fail again after a long rest."""
    for dag in _dags(spec):
        for task in dag.tasks.values():
            task.ClearField("retry_policy")


def _ask_last_for(branch: str, spec: Any) -> None:
    """Let the task of the branch wait for the chain: before that it would only wait for the branch itself."""
    name, last = (node.replace("_", "-") for node in (branch, "refine"))
    for dag in _dags(spec):
        if name in dag.tasks:
            dag.tasks[name].dependent_tasks.append(last)


def _leave_out_what_nobody_gives(spec: Any) -> None:
    """Drop the optional parameters of a component that none of its tasks sets, such as another method's.

    `kfp.local` would hand on None for each and fail at those that are whole numbers; a cluster leaves them out.
    """
    given: dict[str, set[str]] = {}
    for dag in _dags(spec):
        for task in dag.tasks.values():
            given.setdefault(task.component_ref.name, set()).update(task.inputs.parameters)
    for name, names in given.items():
        parameters = spec.components[name].input_definitions.parameters
        for parameter in [item for item in parameters if parameters[item].is_optional and item not in names]:
            del parameters[parameter]


def _dags(spec: Any) -> list[Any]:
    return [spec.root.dag, *(component.dag for component in spec.components.values() if component.HasField("dag"))]


def stop_with_parent() -> None:
    """Stop this process group when whoever started it is gone: its end of our standard input closes with it."""

    def wait() -> None:
        # Not through sys.stdin, whose lock this thread would still hold when the interpreter ends.
        os.read(0, 1)
        os.killpg(0, signal.SIGTERM)

    threading.Thread(target=wait, name="parent", daemon=True).start()


def _stop(number: int, frame: FrameType | None) -> None:
    # Tasks inherit the environment, so the ones that KFP would still start see this and end at once.
    os.environ[STOP_VARIABLE] = "1"
