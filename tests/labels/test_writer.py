"""The commit of a shard: its record names bytes that are there, whoever was first."""

from __future__ import annotations

import pytest

from sskd_core.data.records import LabeledImage
from sskd_core.labels.schema import decode_shard
from sskd_core.labels.statistics import count_labels
from sskd_core.labels.writer import ShardSet, shard_count

ONE, OTHER = [LabeledImage("one.jpg", 4, 3)], [LabeledImage("other.jpg", 4, 3)]


@pytest.fixture
def shards(store):
    return ShardSet(store, f"{store.root}/labels")


def write(shards, images, index=0):
    return shards.write(index, images, "teacher", count_labels(images, [], {}, 0.0))


def test_a_record_names_its_shard_by_the_digest_of_its_bytes(store, shards):
    record = write(shards, ONE, index=7)
    assert shards.finished(range(10)) == {7: record}
    assert record.shard.name == "shards/00007"
    assert f"/shards/00007-{record.shard.digest[7:19]}.parquet" in record.shard.uri
    assert decode_shard(store.read(record.shard), record.shard.uri) == ONE


def test_only_the_shards_asked_for_are_looked_up(shards):
    write(shards, ONE, index=0)
    write(shards, OTHER, index=1)
    assert list(shards.finished([1, 2])) == [1]


def test_of_two_twins_with_other_results_the_first_stands(store, shards):
    first = write(shards, ONE)
    assert write(shards, OTHER) == first
    assert shards.finished([0]) == {0: first}
    assert decode_shard(store.read(first.shard), first.shard.uri) == ONE


def test_a_record_whose_shard_is_gone_is_replaced(store, shards):
    store.delete(write(shards, ONE).shard.uri)
    assert shards.finished([0]) == {}
    second = write(shards, OTHER)
    assert shards.finished([0]) == {0: second}
    assert decode_shard(store.read(second.shard), second.shard.uri) == OTHER


def test_a_shard_without_record_is_not_finished(store, shards):
    record = write(shards, ONE)
    store.delete(record.shard.uri.split("/shards/")[0] + "/statistics/00000.json")
    assert shards.finished([0]) == {}


@pytest.mark.parametrize(("images", "shards"), [(0, 0), (1, 1), (8, 1), (9, 2), (16, 2)])
def test_every_image_has_its_shard(images, shards):
    assert shard_count(images, 8) == shards
