"""`prepare` on a data set that is there already: old shards by reference, new images in shards of their own."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sskd_core.config.data import AddedData
from sskd_core.config.experiment import ExperimentConfig
from sskd_core.config.retrain import RetrainConfig
from sskd_core.data.dataset import SPLITS, Dataset
from sskd_core.errors import DataError, IntegrityError
from sskd_core.retraining.scan import keep_scan, scan
from sskd_core.stages.entry import run_node
from sskd_core.storage.manifest import Manifest
from sskd_core.storage.store import ObjectStore
from tests.micro import SIZES, micro_data, micro_experiment


@pytest.fixture
def experiment(store: ObjectStore) -> ExperimentConfig:
    return micro_experiment(store.config, micro_data(store))


def png(value: int) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.full((8, 6, 3), value, dtype=np.uint8)).save(stream, "PNG")
    return stream.getvalue()


def extended(experiment: ExperimentConfig, earlier: Manifest, **added: Any) -> Manifest:
    """Run the stage as a retrain does."""
    reference = {"uri": earlier.uri, "digest": earlier.digest}
    values = experiment.model_dump(mode="json")
    values["data"]["added"] = AddedData(**added).model_dump(mode="json")
    values["takes_over"] = {"inputs": {"prepare": {"earlier": reference}}}
    return run_node(ExperimentConfig.model_validate(values), "prepare", {})


def found(store: ObjectStore, *values: int, generation: int = 1) -> Any:
    for value in values:
        store.put(f"{store.root}/camera-{generation}/{value}.png", png(value))
    new = scan([f"{store.root}/camera-{generation}"], set(), store, RetrainConfig(), 10_000, generation, copy=True)
    return keep_scan(new, store, write=True)


def test_new_images_come_after_the_old_ones_and_nothing_old_is_written_again(
    experiment: ExperimentConfig, store: ObjectStore
):
    first = run_node(experiment, "prepare", {})
    second = extended(experiment, first, images=found(store, 1, 2))
    third = extended(experiment, second, images=found(store, 3, generation=2))
    old, new = Dataset.load(first, store), Dataset.load(third, store)
    assert {(ref.uri, ref.digest) for ref in old.shards} < {(ref.uri, ref.digest) for ref in new.shards}
    assert len(new.shards) == len(old.shards) + 2
    images = new.images("unlabeled")
    assert images[: SIZES.unlabeled] == old.images("unlabeled")
    assert [item.image_id for item in images[SIZES.unlabeled :]] == ["+1/0/1.png", "+1/0/2.png", "+2/0/3.png"]
    assert (first.facts["digests"]["test"], first.facts["digests"]["val"]) == (
        third.facts["digests"]["test"],
        third.facts["digests"]["val"],
    ), "what did not change keeps its digest, so figures on it stay comparable"
    assert third.facts["digests"]["unlabeled"] != second.facts["digests"]["unlabeled"]
    assert third.facts["generation"] == 2
    assert third.inputs["earlier"].digest == second.digest
    assert third.licences == first.licences


def test_new_annotations_leave_val_and_test_alone(experiment: ExperimentConfig, store: ObjectStore):
    first = run_node(experiment, "prepare", {})
    # The same labelled images once more, and the test split as if it were new training data.
    data, more = experiment.data, micro_data(store, seed=5)
    second = extended(experiment, first, labeled=[more.labeled, data.labeled, data.test])
    new = Dataset.load(second, store)
    assert len(new.images("labeled")) == len(new.ground_truth("labeled")) == 2 * SIZES.labeled
    assert second.facts["left_out"] == {"labeled_in_other_splits": SIZES.labeled + SIZES.test}
    assert sum(second.facts["class_histogram"].values()) == second.facts["counts"]["labeled"]["instances"]
    assert new.images("test") == Dataset.load(first, store).images("test")


def test_a_new_test_split_has_no_image_that_was_trained_on(experiment: ExperimentConfig, store: ObjectStore):
    first = run_node(experiment, "prepare", {})
    more = micro_data(store, seed=5)
    second = extended(experiment, first, test=more.test, labeled=[more.test])
    new = Dataset.load(second, store)
    assert len(new.images("test")) == SIZES.test
    assert len(new.images("labeled")) == SIZES.labeled, "what is tested on is not trained on"
    splits = {split: {record.digest for record in new.images(split)} for split in SPLITS}
    assert splits["test"].isdisjoint(splits["labeled"] | splits["val"] | splits["unlabeled"])
    assert second.facts["digests"]["test"] != first.facts["digests"]["test"]
    with pytest.raises(DataError, match=r"data\.added\.test: no object on an image that no model was trained on"):
        extended(experiment, first, test=experiment.data.labeled)


def test_an_index_that_was_replaced_is_refused(experiment: ExperimentConfig, store: ObjectStore):
    first = run_node(experiment, "prepare", {})
    reference = found(store, 1)
    store.put(reference.uri, b"another index")
    with pytest.raises(IntegrityError, match=reference.digest):
        extended(experiment, first, images=reference)
