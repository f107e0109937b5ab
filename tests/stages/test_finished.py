"""What stands in the store is found by walking the graph."""

from __future__ import annotations

from sskd_core.stages.contract import stage_fingerprint
from sskd_core.stages.entry import run_node
from sskd_core.stages.finished import finished_nodes
from sskd_core.storage.manifest import MEDIA_TYPE, Manifest
from sskd_core.storage.store import ObjectStore
from tests.micro import micro_data, micro_experiment


def test_nodes_are_found_as_far_as_the_run_came(store: ObjectStore):
    experiment = micro_experiment(store.config, micro_data(store))
    assert finished_nodes(experiment, store) == {}
    prepared = run_node(experiment, "prepare", {})
    assert finished_nodes(experiment, store) == {"prepare": prepared}
    other = experiment.model_copy(update={"seed": 7})
    assert finished_nodes(other, store) == {}


def test_a_result_behind_a_missing_one_does_not_count(store: ObjectStore):
    experiment = micro_experiment(store.config, micro_data(store))
    prepared = run_node(experiment, "prepare", {})
    identity = stage_fingerprint("adapt_teacher", experiment.stage_config("adapt_teacher"), {"data": prepared})
    prefix = f"{store.root}/stages/adapt_teacher/{identity.removeprefix('sha256:')[:32]}"
    uri = f"{prefix}/manifest.json"
    taught = Manifest.model_validate(
        prepared.model_dump() | {"stage": "adapt_teacher", "fingerprint": identity, "uri": uri}
    )
    store.put(uri, taught.to_bytes(), MEDIA_TYPE)
    assert list(finished_nodes(experiment, store)) == ["prepare", "adapt_teacher"]
    store.delete(prepared.uri)
    assert finished_nodes(experiment, store) == {}
