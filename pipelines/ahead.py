"""The baseline beside the longest training. `kfp.local` runs one task after the other, and a small network's training
keeps no two cores busy; the supervised student needs nothing but the data. A process of its own trains it through the
same entry, so that KFP's task finds the result, or waits for it. It starts with `distill`: earlier it would only take
cores from the teacher, on which everything waits.
"""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sskd_core.config.experiment import ExperimentConfig
from sskd_core.config.graph import BASELINE, BESIDE_BASELINE
from sskd_core.stages.entry import find_result, run_node
from sskd_core.storage.manifest import Manifest

_POLL_SECONDS = 0.5


@contextmanager
def baseline_beside(experiment: ExperimentConfig, folder: Path) -> Iterator[None]:
    """Run the baseline in a process of its own if the experiment lets stages run side by side.

    Args:
        experiment: as the pipeline runs it.
        folder: for the experiment's file.
    """
    if not experiment.trains_baseline_beside:
        yield
        return
    file = folder / "experiment.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(experiment.model_dump_json(), encoding="utf-8")
    with subprocess.Popen([sys.executable, "-m", "pipelines", "ahead", str(file)], stdin=subprocess.DEVNULL) as process:
        try:
            yield
        finally:
            # Finished long ago, unless the pipeline broke off; then it saves its state.
            process.terminate()


def run_baseline(experiment: ExperimentConfig) -> Manifest:
    """Run the baseline's node as soon as the pipeline can start the training beside it."""
    _inputs(experiment, BESIDE_BASELINE)
    return run_node(experiment, BASELINE, _inputs(experiment, BASELINE))


def _inputs(experiment: ExperimentConfig, node: str) -> dict[str, Manifest]:
    """Wait for what a node reads, as long as it takes: who started this process stops it if the pipeline breaks off."""
    return {name: _wait_for(experiment, source) for name, source in experiment.node(node).inputs.items()}


def _wait_for(experiment: ExperimentConfig, node: str) -> Manifest:
    inputs = _inputs(experiment, node)
    while (manifest := find_result(experiment, node, inputs)) is None:
        time.sleep(_POLL_SECONDS)
    return manifest
