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
from sskd_core.labels.earlier import INPUT, joined_shards, left_to_label
from sskd_core.labels.health import check_health, class_drift
from sskd_core.labels.schema import decode_shard
from sskd_core.labels.sheet import choose_images, contact_sheet, spread_indices
from sskd_core.labels.statistics import LabelStatistics, sum_statistics
from sskd_core.labels.store import label_shards, read_statistics, shard_outputs
from sskd_core.labels.writer import WORKERS, ShardRecord, ShardSet, shard_count
from sskd_core.stages.contract import StageContext, StageResult
from sskd_core.storage.digest import canonical_json
from sskd_core.storage.manifest import Manifest, ObjectRef

_SHEET_SHARDS = 4


def run(config: PseudoLabelStageConfig, inputs: Mapping[str, Manifest], context: StageContext) -> StageResult:
    """Check and sum up what the workers wrote.

    Args:
        config: the rules; which worker is asked does not matter.
        inputs: `data`, the prepared data set, `teacher`, the stage that made the labeller, and, perhaps, `earlier`, the
            labels that stand.
        context: of the `pseudo_label` stage.

    Returns:
        Outputs `shards/NNNNN` (or `shards`, a list of them, when there are many), `statistics` and `sheet`.

    Raises:
        UserError: a shard is missing, or the labels are not worth learning from.
        IntegrityError: a record or a shard cannot be read.
    """
    dataset = Dataset.load(inputs["data"], context.store)
    records = dataset.images("unlabeled")
    new = left_to_label(records, config, inputs)
    finished = _all_shards(shard_count(len(new), config.label.shard_images), context)
    added = sum_statistics(record.statistics for record in finished)
    shards, statistics = [record.shard for record in finished], added
    if INPUT in inputs:
        shards = joined_shards(label_shards(inputs[INPUT], context.store), shards)
        statistics = sum_statistics([read_statistics(inputs[INPUT], context.store), added])
    health = check_health(statistics, dataset.class_histogram, config.label)
    context.progress.note(f"{statistics.instances} pseudo-labels on {statistics.images} images")
    outputs = [
        *shard_outputs(shards, context.store, context.prefix),
        _write_statistics(statistics, context),
        _write_sheet(shards[-len(finished) :] if finished else shards, dataset, records, context),
    ]
    metrics = {
        "images": float(statistics.images),
        "instances": float(statistics.instances),
        "instances_per_image": statistics.instances / statistics.images,
        "empty_rate": health.empty_rate,
    }
    if health.class_drift is not None:
        metrics["class_drift"] = health.class_drift
    if INPUT in inputs:
        metrics |= _added_metrics(added, dataset)
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


def _added_metrics(added: LabelStatistics, dataset: Dataset) -> dict[str, float]:
    """Return the figures of the new images by themselves: among many old ones, a few that went wrong do not show."""
    metrics = {"new_images": float(added.images), "new_instances": float(added.instances)}
    if added.images:
        metrics["new_empty_rate"] = added.empty_rate
    drift = class_drift(added.class_histogram, dataset.class_histogram)
    return metrics if drift is None else {**metrics, "new_class_drift": drift}


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
