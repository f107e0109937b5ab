"""What of an experiment is done: the manifests that stand in the store, found without asking an orchestrator.

A node's place follows from its settings, its inputs and the code, so the graph can be walked from its first node on.
"""

from __future__ import annotations

from sskd_core.config.experiment import ExperimentConfig
from sskd_core.stages import contract
from sskd_core.storage.manifest import Manifest
from sskd_core.storage.store import ObjectStore


def finished_nodes(experiment: ExperimentConfig, store: ObjectStore) -> dict[str, Manifest]:
    """Return the manifests of the nodes that are done.

    Args:
        experiment: with the digests of its data and weights, as its run has them.
        store: where it ran.

    Returns:
        By node, in the order of the graph; a node behind one that is missing is missing, too.
    """
    done: dict[str, Manifest] = {}
    for node in experiment.nodes:
        if set(node.inputs.values()) <= done.keys():
            inputs = {name: done[source] for name, source in node.inputs.items()}
            identity = contract.stage_fingerprint(node.stage, experiment.stage_config(node.name), inputs)
            found = contract.find(store, node.stage, identity)
            if found is not None:
                done[node.name] = found
    return done
