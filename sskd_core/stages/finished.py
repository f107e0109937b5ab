"""What of an experiment is done: the manifests that stand in the store, found without asking an orchestrator.

A node's place follows from its settings, its inputs and the code, so the graph can be walked from its first node on.
"""

from __future__ import annotations

from sskd_core.config.experiment import ExperimentConfig
from sskd_core.stages.entry import find_result
from sskd_core.stages.taken_over import standing_result
from sskd_core.storage.manifest import Manifest
from sskd_core.storage.store import ObjectStore


def finished_nodes(experiment: ExperimentConfig, store: ObjectStore) -> dict[str, Manifest]:
    """Return the manifests of the nodes that are done.

    Args:
        experiment: with the digests of its data and weights, as its run has them.
        store: where it ran.

    Returns:
        By node, in the order of the graph. What was taken over from an earlier run is done; of the others, a node
        behind one that is missing is missing, too.
    """
    done: dict[str, Manifest] = {}
    for node in experiment.nodes:
        found = standing_result(experiment, node.name, store)
        if found is None and set(node.inputs.values()) <= done.keys():
            found = find_result(experiment, node.name, {name: done[source] for name, source in node.inputs.items()})
        if found is not None:
            done[node.name] = found
    return done
