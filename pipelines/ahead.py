"""The baseline beside the chain. `kfp.local` runs one task after the other and leaves cores idle on which a second
stage could train; the supervised student needs nothing but the data. A process of its own starts it early, through the
same entry, so that KFP's task finds the result, or waits for it.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sskd_core.config.experiment import ExperimentConfig, node
from sskd_core.progress import DIRECTORY_VARIABLE
from sskd_core.stages.entry import run_node
from sskd_core.storage.manifest import Manifest

BRANCH = "train_supervised"


@contextmanager
def branch_beside(experiment: ExperimentConfig, folder: Path) -> Iterator[None]:
    """Run the branch in a process of its own if the experiment lets stages run side by side.

    Args:
        experiment: as the pipeline runs it.
        folder: for the experiment's file.
    """
    if experiment.side_by_side < 2:
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


def run_branch(experiment: ExperimentConfig) -> Manifest:
    """Run the branch's nodes in order; whoever shows the pipeline's progress hears of the last one alone."""
    shown = os.environ.pop(DIRECTORY_VARIABLE, None)
    inputs = {name: run_node(experiment, source, {}) for name, source in node(BRANCH).inputs.items()}
    if shown is not None:
        os.environ[DIRECTORY_VARIABLE] = shown
    return run_node(experiment, BRANCH, inputs)
