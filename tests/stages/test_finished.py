"""What stands in the store is found by walking the graph."""

from __future__ import annotations

from typing import Any

from sskd_core.config.experiment import ExperimentConfig
from sskd_core.config.retrain import TakeOver
from sskd_core.stages.contract import stage_fingerprint
from sskd_core.stages.entry import run_node
from sskd_core.stages.finished import finished_nodes
from sskd_core.storage.manifest import MEDIA_TYPE, InputRef, Manifest
from sskd_core.storage.store import ObjectStore
from tests.micro import micro_data, micro_experiment


def test_nodes_are_found_as_far_as_the_run_came(store: ObjectStore):
    experiment = micro_experiment(store.config, micro_data(store))
    assert finished_nodes(experiment, store) == {}
    prepared = run_node(experiment, "prepare", {})
    assert finished_nodes(experiment, store) == {"prepare": prepared}
    other = experiment.model_copy(update={"seed": 7})
    assert finished_nodes(other, store) == {}


def commit(experiment: ExperimentConfig, store: ObjectStore, stage: str, **inputs: Manifest) -> Manifest:
    """Put a manifest where a stage with these inputs would."""
    identity = stage_fingerprint(stage, experiment.stage_config(stage), inputs)
    uri = f"{store.root}/stages/{stage}/{identity.removeprefix('sha256:')[:32]}/manifest.json"
    values: dict[str, Any] = next(iter(inputs.values())).model_dump()
    done = Manifest.model_validate(values | {"stage": stage, "fingerprint": identity, "uri": uri})
    store.put(uri, done.to_bytes(), MEDIA_TYPE)
    return done


def test_a_result_behind_a_missing_one_does_not_count(store: ObjectStore):
    experiment = micro_experiment(store.config, micro_data(store))
    prepared = run_node(experiment, "prepare", {})
    commit(experiment, store, "adapt_teacher", data=prepared)
    assert list(finished_nodes(experiment, store)) == ["prepare", "adapt_teacher"]
    store.delete(prepared.uri)
    assert finished_nodes(experiment, store) == {}


def test_what_was_taken_over_is_done_and_counts_as_input(store: ObjectStore):
    experiment = micro_experiment(store.config, micro_data(store))
    prepared = run_node(experiment, "prepare", {})
    taught = commit(experiment, store, "adapt_teacher", data=prepared)
    other = run_node(micro_experiment(store.config, micro_data(store, seed=3)), "prepare", {})
    reference = {"uri": taught.uri, "digest": taught.digest}
    taken = TakeOver(
        results={"adapt_teacher": InputRef(**reference)},
        inputs={"prepare": {"earlier": InputRef(uri=other.uri, digest=other.digest)}},
    )
    going_on = experiment.model_copy(update={"takes_over": taken})
    assert finished_nodes(going_on, store) == {"adapt_teacher": taught}, "its data set goes on from another one"
    extended = commit(going_on, store, "prepare", earlier=other)
    assert finished_nodes(going_on, store) == {"prepare": extended, "adapt_teacher": taught}
