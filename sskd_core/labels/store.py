"""Reading the pseudo-labels of a committed labelling stage."""

from __future__ import annotations

from typing import Any

from pydantic import TypeAdapter, ValidationError

from sskd_core.data.records import LabeledImage
from sskd_core.errors import IntegrityError
from sskd_core.labels.schema import decode_shard
from sskd_core.labels.statistics import LabelStatistics
from sskd_core.storage.digest import canonical_json
from sskd_core.storage.manifest import Manifest, ObjectRef
from sskd_core.storage.store import ObjectStore

LISTED_SHARDS = 200
"""A manifest names up to so many shards itself; beyond, it names one object that lists them."""

_SHARD_LIST = TypeAdapter(list[ObjectRef])


def shard_outputs(shards: list[ObjectRef], store: ObjectStore, prefix: str) -> list[ObjectRef]:
    """Return the outputs by which a manifest names its shards, and write their list if there are many."""
    if len(shards) <= LISTED_SHARDS:
        return shards
    data = canonical_json(_SHARD_LIST.dump_python(shards, mode="json"))
    return [store.put_output("shards", f"{prefix}/shards.json", data, "application/json")]


def label_shards(manifest: Manifest, store: ObjectStore) -> list[ObjectRef]:
    """Return the shards of a collected `pseudo_label` manifest, in order.

    Raises:
        IntegrityError: the manifest is not that of collected labels, or its list of shards was changed.
    """
    named = manifest.outputs_like("shards/")
    if named:
        return named
    listing = manifest.output("shards")
    try:
        return _SHARD_LIST.validate_json(store.read(listing))
    except ValidationError:
        raise IntegrityError(f"{listing.uri}: not a list of label shards") from None


def load_labels(manifest: Manifest, store: ObjectStore) -> dict[str, LabeledImage]:
    """Read all pseudo-labels.

    Args:
        manifest: of a collected `pseudo_label` stage.
        store: where its shards are.

    Returns:
        The labels by image id, in the order of the data set's index; empty images included.

    Raises:
        IntegrityError: wrong manifest, or a shard is not what the manifest says.
    """
    shards = label_shards(manifest, store)
    return {item.image_id: item for shard in shards for item in decode_shard(store.read(shard), shard.uri)}


def read_statistics(manifest: Manifest, store: ObjectStore) -> LabelStatistics:
    """Read the statistics over all shards of a collected `pseudo_label` manifest."""
    output = manifest.output("statistics")
    try:
        return LabelStatistics.model_validate_json(store.read(output))
    except ValidationError:
        raise IntegrityError(f"{output.uri}: not label statistics of this release") from None


def inspect_labels(manifest: Manifest, store: ObjectStore) -> dict[str, Any]:
    """Summarise the pseudo-labels of a stage without reading a shard.

    Returns:
        JSON-ready values: shards, images, instances, empty rate, class histogram, score quantiles,
        rejections, the configuration that made them, the labeller and the health figures.
    """
    statistics = read_statistics(manifest, store)
    shown = statistics.model_dump(mode="json", exclude={"schema_version", "score_histogram"})
    return {
        "manifest": manifest.uri,
        "digest": manifest.digest,
        "labeller": manifest.facts.get("labeller"),
        "shards": manifest.facts.get("shards"),
        **shown,
        "class_drift": manifest.metrics.get("class_drift"),
        "config": manifest.config.get("label", {}),
        "sheet": manifest.output("sheet").uri,
    }
