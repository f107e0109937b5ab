"""The pipeline without an orchestrator: every node in this process, one after the other."""

from __future__ import annotations

from sskd_core.config.experiment import ExperimentConfig
from sskd_core.stages.entry import run_node
from sskd_core.storage.manifest import Manifest


def run_pipeline(experiment: ExperimentConfig) -> dict[str, Manifest]:
    """Run all nodes as the compiled pipeline wires them; return their manifests."""
    done: dict[str, Manifest] = {}
    for node in experiment.nodes:
        inputs = {name: done[source] for name, source in node.inputs.items()}
        for worker in range(experiment.label_workers) if node.fan_out else ():
            run_node(experiment, node.name, inputs, worker)
        done[node.name] = run_node(experiment, node.name, inputs)
    return done
