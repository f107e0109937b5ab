"""What a run takes over from an earlier one, as its configuration says: whole results, and inputs to go on from."""

from __future__ import annotations

from sskd_core.config.experiment import ExperimentConfig
from sskd_core.config.retrain import FURTHER_INPUTS
from sskd_core.errors import IntegrityError
from sskd_core.stages.registry import find_node
from sskd_core.storage.manifest import InputRef, Manifest
from sskd_core.storage.store import ObjectStore


def standing_result(experiment: ExperimentConfig, node: str, store: ObjectStore) -> Manifest | None:
    """Return the result that stands for a node, or None for one that has its own work to do.

    Raises:
        IntegrityError: the manifest is not the one that was named, or of another stage.
        StorageError: it is gone.
    """
    taken = experiment.takes_over
    if taken is None or node not in taken.results:
        return None
    return _read(taken.results[node], find_node(node, experiment.method).stage, store)


def further_inputs(experiment: ExperimentConfig, node: str, store: ObjectStore) -> dict[str, Manifest]:
    """Return the inputs that a node has beside those of the pipeline; arguments and errors as above."""
    taken = experiment.takes_over
    if taken is None:
        return {}
    stages = FURTHER_INPUTS.get(find_node(node, experiment.method).stage, {})
    named = taken.inputs.get(node, {})
    unknown = sorted(set(named) - set(stages))
    if unknown:
        raise IntegrityError(f"takes_over.inputs: stage '{node}' has no further input '{unknown[0]}'")
    return {name: _read(reference, stages[name], store) for name, reference in named.items()}


def _read(reference: InputRef, stage: str, store: ObjectStore) -> Manifest:
    manifest = store.manifest(reference.uri, reference.digest)
    if manifest.stage != stage:
        raise IntegrityError(f"{reference.uri} is a manifest of stage '{manifest.stage}', not of '{stage}'")
    return manifest
