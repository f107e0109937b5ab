"""What the writer wrote is what the data set reads, through a real store, however many shards there are."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pytest

from sskd_core.data import writer as writer_module
from sskd_core.data.dataset import Dataset
from sskd_core.data.masks import encode_mask
from sskd_core.data.records import ImageRecord, Instance, LabeledImage
from sskd_core.data.writer import DatasetWriter
from sskd_core.errors import IntegrityError
from sskd_core.storage.manifest import Manifest

ZERO = "sha256:" + "0" * 64


def record(number: int) -> ImageRecord:
    return ImageRecord(f"{number:03d}.png", f"s3://sskd/data/{number}", ZERO, 10, 8, 6)


def annotation(number: int) -> LabeledImage:
    mask = np.zeros((6, 8), bool)
    mask[1:3, : number % 8] = True
    instances = [Instance(0, encode_mask(mask), bbox=(0, 1, number % 8, 2), area=2 * (number % 8))]
    return LabeledImage(f"{number:03d}.png", 8, 6, instances if number % 3 else [])


def write(store, labelled: int, unlabelled: int) -> tuple[DatasetWriter, Manifest]:
    prefix = f"{store.root}/stages/prepare/x"
    writer = DatasetWriter(store, prefix, shard_images=4)
    for number in range(labelled):
        writer.add("labeled", record(number), annotation(number))
    writer.close_split("labeled")
    for number in range(unlabelled):
        writer.add("unlabeled", record(number))
    writer.close_split("unlabeled")
    counts = {"labeled": {"images": labelled, "instances": 0}, "unlabeled": {"images": unlabelled}}
    manifest = Manifest(
        stage="prepare",
        fingerprint=ZERO,
        outputs=writer.outputs(),
        facts={"classes": ["disc"], "counts": counts, "class_histogram": {"disc": 1}},
        config_digest=ZERO,
        code_digest=ZERO,
        created=dt.datetime(2026, 1, 1, tzinfo=dt.UTC),
        uri=f"{prefix}/manifest.json",
    )
    return writer, manifest


def test_records_and_annotations_come_back_from_several_shards(store):
    _, manifest = write(store, labelled=10, unlabelled=5)
    assert [ref.name for ref in manifest.outputs_like("images/")] == [
        "images/labeled/00000",
        "images/labeled/00001",
        "images/labeled/00002",
        "images/unlabeled/00000",
        "images/unlabeled/00001",
    ]
    dataset = Dataset.load(manifest, store)
    assert dataset.images("labeled") == [record(number) for number in range(10)]
    assert dataset.images("unlabeled") == [record(number) for number in range(5)]
    assert dataset.ground_truth("labeled") == {f"{number:03d}.png": annotation(number) for number in range(10)}
    with pytest.raises(ValueError, match="no ground truth"):
        dataset.ground_truth("unlabeled")


def test_many_shards_are_listed_in_one_object(store, monkeypatch):
    monkeypatch.setattr(writer_module, "MAX_LISTED", 3)
    _, manifest = write(store, labelled=10, unlabelled=5)
    assert [ref.name for ref in manifest.outputs] == ["index"]
    dataset = Dataset.load(manifest, store)
    assert len(dataset.images("labeled")) == 10
    assert len(dataset.images("unlabeled")) == 5


def test_the_writer_keeps_no_more_than_a_shard(store):
    writer = DatasetWriter(store, f"{store.root}/x", shard_images=4)
    for number in range(9):
        writer.add("unlabeled", record(number))
        assert len(writer._pending) < 4
    assert len(writer.outputs()) == 2


def test_the_digest_of_a_split_is_that_of_its_content(store):
    def digest(count: int, first: int = 0) -> str:
        writer = DatasetWriter(store, f"{store.root}/x", shard_images=4)
        for number in range(first, count):
            writer.add("unlabeled", record(number))
        return writer.close_split("unlabeled")

    assert digest(9) == digest(9)
    assert len({digest(9), digest(8), digest(9, first=1)}) == 3


def test_a_changed_shard_is_refused(store):
    _, manifest = write(store, labelled=3, unlabelled=3)
    store.put(manifest.output("images/unlabeled/00000").uri, b"other bytes")
    with pytest.raises(IntegrityError, match="images/unlabeled/00000"):
        Dataset.load(manifest, store).images("unlabeled")


def test_a_missing_shard_is_refused(store):
    _, manifest = write(store, labelled=10, unlabelled=3)
    fewer = [ref for ref in manifest.outputs if ref.name != "images/labeled/00001"]
    with pytest.raises(IntegrityError, match="hold 6 images, the manifest says 10"):
        Dataset.load(manifest.model_copy(update={"outputs": fewer}), store).images("labeled")


def test_the_manifest_of_another_stage_is_refused(store):
    _, manifest = write(store, labelled=3, unlabelled=3)
    with pytest.raises(IntegrityError, match="a manifest of 'distill', not of 'prepare'"):
        Dataset.load(manifest.model_copy(update={"stage": "distill"}), store)
