"""The list of shards that a manifest names or points to."""

from __future__ import annotations

import datetime as dt

import pytest

from sskd_core.errors import IntegrityError
from sskd_core.labels.store import LISTED_SHARDS, label_shards, read_statistics, shard_outputs
from sskd_core.storage.digest import digest_bytes, digest_json
from sskd_core.storage.manifest import MAX_BYTES, Manifest, ObjectRef


def manifest(store, outputs):
    return Manifest(
        stage="pseudo_label",
        fingerprint=digest_json(1),
        outputs=outputs,
        config_digest=digest_json(1),
        code_digest=digest_json(1),
        created=dt.datetime(2025, 1, 1, tzinfo=dt.UTC),
        uri=f"{store.root}/manifest.json",
    )


def references(store, count):
    prefix = f"{store.root}/{'long-folder-name/' * 6}"
    return [
        ObjectRef(name=f"shards/{index:05d}", uri=f"{prefix}{index}.parquet", digest=digest_bytes(b""), bytes=2**40)
        for index in range(count)
    ]


@pytest.mark.parametrize("count", [1, LISTED_SHARDS, LISTED_SHARDS + 1, 3000])
def test_the_manifest_stays_small_and_leads_to_all_shards(store, count):
    shards = references(store, count)
    found = manifest(store, shard_outputs(shards, store, f"{store.root}/labels"))
    assert len(found.to_bytes()) < MAX_BYTES
    assert label_shards(found, store) == shards


@pytest.mark.parametrize(("name", "read"), [("shards", label_shards), ("statistics", read_statistics)])
def test_what_is_no_list_and_no_statistics_is_refused(store, name, read):
    wrong = store.put_output(name, f"{store.root}/{name}.json", b'{"a": 1}')
    with pytest.raises(IntegrityError, match=rf"{name}\.json: not "):
        read(manifest(store, [wrong]), store)
