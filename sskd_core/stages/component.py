"""What the body of every pipeline component calls: manifests in as files, one manifest out as a file.

An orchestrator knows exit codes and files only, so this is where errors become exit codes: 0 done, 2 the user can mend
it, 143 stopped and ready to go on, anything else a defect.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from pydantic import ValidationError

from sskd_core.config.base import validate
from sskd_core.config.experiment import ExperimentConfig
from sskd_core.errors import ConfigError, DataError, IntegrityError, Interrupted, UserError
from sskd_core.stages.entry import SHARED_VARIABLE, run_node
from sskd_core.storage.manifest import Manifest

STOP_VARIABLE = "SSKD_STOP"
"""Set by a local runner that was told to stop: tasks that would still begin end at once."""
GPU_VARIABLE = "SSKD_GPUS"
"""Set by a pipeline on a task that it gives GPUs: how many."""
EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 143


def run_component(
    node: str, experiment: str, inputs: Mapping[str, str], manifest_path: str, worker: int | None = None
) -> dict[str, float]:
    """Run one node for a pipeline component.

    Args:
        node: name of the node.
        experiment: the experiment as JSON text. Text, because KFP's struct type turns 1 into 1.0 and knows no null.
        inputs: input name -> file that holds the manifest.
        manifest_path: file for the new manifest.
        worker: see `run_node`.

    Returns:
        The metrics of the manifest.

    Raises:
        SystemExit: 2 after a user error, 143 when stopped.
    """
    with exit_codes():
        require_gpus()
        config = parse_experiment(experiment)
        manifests = {name: _read(name, Path(path)) for name, path in inputs.items()}
        manifest = run_node(config, node, manifests, worker)
    write_file(manifest_path, manifest.to_bytes())
    return manifest.metrics


@contextmanager
def exit_codes() -> Iterator[None]:
    """Set up the log of a task, and end it with the code that its error stands for.

    Raises:
        SystemExit: 2 after a user error, 143 when stopped.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        if os.environ.get(STOP_VARIABLE):
            raise Interrupted("stopped before the stage began; run the same command again to go on")
        yield
    except Interrupted as error:
        print(error, file=sys.stderr)
        raise SystemExit(EXIT_INTERRUPTED) from None
    except UserError as error:
        lines = error.problems if isinstance(error, DataError) else [str(error)]
        print("\n".join(lines), file=sys.stderr)
        raise SystemExit(EXIT_USER_ERROR) from None


def parse_experiment(text: str) -> ExperimentConfig:
    """Read the parameter `experiment` of a component.

    Raises:
        ConfigError: one line.
    """
    where = "the pipeline parameter 'experiment'"
    try:
        values = json.loads(text)
    except ValueError as error:
        raise ConfigError(f"{where} is not JSON: {error}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{where} is not a JSON object")
    return validate(ExperimentConfig, values, where)


def require_gpus(environment: Mapping[str, str] = os.environ) -> None:
    """Refuse to train on a CPU by mistake: a task that was given GPUs must see them.

    On a machine of one's own, whose runner shares it between the tasks, whatever is there is used.

    Raises:
        UserError: CUDA sees fewer.
    """
    wanted = int(environment.get(GPU_VARIABLE) or 0)
    if not wanted or environment.get(SHARED_VARIABLE):
        return
    import torch

    seen = torch.cuda.device_count()
    if seen < wanted:
        raise UserError(
            f"the task was given {wanted} GPU{'s' if wanted > 1 else ''} and CUDA sees {seen}: the node's driver, its "
            "device plug-in or an image without CUDA; check: nvidia-smi in the pod, kubectl describe node"
        )


def write_file(path: str, data: bytes) -> None:
    """Write an output of a task; its folder is made."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(data)


def _read(name: str, path: Path) -> Manifest:
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        reason = str(error).splitlines()[0]
        raise IntegrityError(f"input '{name}': {path} holds no manifest: {reason}") from None
