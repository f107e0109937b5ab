"""Collecting the labels of all workers: is every shard there, are the labels healthy, what do they look like.

Reads the records beside the shards, and of the shards only the few that the contact sheet shows. Runs as the
stage `pseudo_label`, whose manifest the contract then commits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sskd_core.config.label import PseudoLabelStageConfig
from sskd_core.data.dataset import Dataset
from sskd_core.data.records import ImageRecord
from sskd_core.errors import UserError
from sskd_core.labels.health import check_health
from sskd_core.labels.schema import decode_shard
from sskd_core.labels.sheet import choose_images, contact_sheet, spread_indices
from sskd_core.labels.statistics import LabelStatistics, sum_statistics
from sskd_core.labels.store import shard_outputs
from sskd_core.labels.writer import WORKERS, ShardRecord, ShardSet, shard_count
from sskd_core.stages.contract import StageContext, StageResult
from sskd_core.storage.digest import canonical_json
from sskd_core.storage.manifest import Manifest, ObjectRef

_SHEET_SHARDS = 4


def run(config: PseudoLabelStageConfig, inputs: Mapping[str, Manifest], context: StageContext) -> StageResult:
    """Check and sum up what the workers wrote.

    Args:
        config: the rules; which worker is asked does not matter.
        inputs: `data`, the prepared data set, and `teacher`, the stage that made the labeller.
        context: of the `pseudo_label` stage.

    Returns:
        Outputs `shards/NNNNN` (or `shards`, a list of them, when there are many), `statistics` and `sheet`.

    Raises:
        UserError: a shard is missing, or the labels are not worth learning from.
        IntegrityError: a record or a shard cannot be read.
    """
    dataset = Dataset.load(inputs["data"], context.store)
    records = dataset.images("unlabeled")
    finished = _all_shards(shard_count(len(records), config.label.shard_images), context)
    statistics = sum_statistics(record.statistics for record in finished)
    health = check_health(statistics, dataset.class_histogram, config.label)
    context.progress.note(f"{statistics.instances} pseudo-labels on {statistics.images} images")
    shards = [record.shard for record in finished]
    outputs = [
        *shard_outputs(shards, context.store, context.prefix),
        _write_statistics(statistics, context),
        _write_sheet(shards, dataset, records, context),
    ]
    metrics = {
        "images": float(statistics.images),
        "instances": float(statistics.instances),
        "instances_per_image": statistics.instances / statistics.images,
        "empty_rate": health.empty_rate,
    }
    if health.class_drift is not None:
        metrics["class_drift"] = health.class_drift
    facts = {
        "classes": dataset.classes,
        "labeller": inputs["teacher"].fingerprint,
        "shards": len(shards),
        "class_histogram": statistics.class_histogram,
        "score_quantiles": statistics.score_quantiles,
        "rejected": statistics.rejected,
        **_cost(context),
    }
    return StageResult(outputs=outputs, metrics=metrics, facts=facts)


def _cost(context: StageContext) -> dict[str, float]:
    """Return what the workers cost: the time of the slowest, as they run side by side, and the largest memory."""
    found = [context.store.manifest(item.uri) for item in context.store.list(f"{context.prefix}/{WORKERS}")]
    return {
        "worker_seconds": max((item.facts["seconds"] for item in found), default=0.0),
        "worker_peak_memory_mb": max((item.facts["peak_memory_mb"] for item in found), default=0.0),
    }


def _all_shards(count: int, context: StageContext) -> list[ShardRecord]:
    finished = ShardSet(context.store, context.prefix).finished(range(count))
    missing = [index for index in range(count) if index not in finished]
    if missing:
        raise UserError(
            f"{context.prefix}: {len(missing)} of {count} label shards are missing, the first is "
            f"{missing[0]:05d}; run the pseudo_label workers again, they go on where they stopped"
        )
    return [finished[index] for index in range(count)]


def _write_statistics(statistics: LabelStatistics, context: StageContext) -> ObjectRef:
    data = canonical_json(statistics.model_dump(mode="json"))
    uri = f"{context.prefix}/statistics.json"
    return context.store.put_output("statistics", uri, data, "application/json")


def _write_sheet(
    shards: Sequence[ObjectRef], dataset: Dataset, records: Sequence[ImageRecord], context: StageContext
) -> ObjectRef:
    shown = [shards[index] for index in spread_indices(len(shards), _SHEET_SHARDS)]
    labels = [item for shard in shown for item in decode_shard(context.store.read(shard), shard.uri)]
    chosen = choose_images(labels)
    wanted = {item.image_id for item in chosen}
    by_id = {record.image_id: record for record in records if record.image_id in wanted}
    sheet = contact_sheet(chosen, dataset.classes, lambda image_id: dataset.read_image(by_id[image_id]))
    return context.store.put_output("sheet", f"{context.prefix}/sheet.png", sheet, "image/png")
