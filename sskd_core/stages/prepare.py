"""The first stage: read every image once, check everything, make the splits, write an index.

All problems of a data set are found in one pass and reported together, and nothing is committed if there is one. What
the stage reads, writes and promises is in docs/data.md.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sskd_core.config.data import AddedData, PrepareConfig
from sskd_core.data.annotated import AnnotatedImage
from sskd_core.data.dataset import LABELED_SPLITS
from sskd_core.data.intake import Intake
from sskd_core.data.partition import Splits, partition
from sskd_core.data.pin import sources_digest
from sskd_core.data.writer import DatasetWriter
from sskd_core.errors import DataError
from sskd_core.progress import Progress
from sskd_core.stages.contract import StageContext, StageResult
from sskd_core.stages.extend import extend
from sskd_core.storage.manifest import Manifest

_UPDATES = 200


def run(config: PrepareConfig, inputs: Mapping[str, Manifest], context: StageContext) -> StageResult:
    """Prepare a data set.

    Args:
        config: the sources, and the seed of the splits.
        inputs: none; or `earlier`, the data set that this one goes on from (see `stages.extend`).
        context: see `StageContext`.

    Returns:
        Outputs `images/<split>/NNNNN` and `ground_truth/<split>/NNNNN`; the facts are listed in docs/data.md.

    Raises:
        DataError: every problem of the data set.
        StorageError: the store failed.
    """
    data = config.data
    if data.sources_digest is not None and data.sources_digest != sources_digest(data, context.store):
        raise DataError("the data sources changed after this run had started; start it again to use them as they are")
    if "earlier" in inputs:
        return extend(config, data.added or AddedData(), inputs["earlier"], context)
    intake = Intake(data, context.store, _steps(context.progress))
    splits = _labeled_splits(intake, config)
    writer = DatasetWriter(context.store, context.prefix, config.shard_images)
    unlabeled = _write_unlabeled(intake, splits, writer)
    if not intake.sound:
        raise DataError(intake.problems)
    digests = {"unlabeled": writer.close_split("unlabeled")}
    for split in LABELED_SPLITS:
        for image in splits[split]:
            writer.add(split, image.record, image.labels)
        digests[split] = writer.close_split(split)
    for split, digest in digests.items():
        context.run.log_input(f"data.{split}", f"{context.prefix}/images/{split}", digest, split)
    counts = {"unlabeled": {"images": unlabeled}, **{split: _counts(splits[split]) for split in LABELED_SPLITS}}
    facts = {"counts": counts, "digests": digests, **_facts(intake, splits)}
    _tell(context.progress, facts)
    return StageResult(
        outputs=writer.outputs(),
        metrics={f"{split}_images": float(item["images"]) for split, item in counts.items()},
        facts=facts,
        licences=[data.licence] if data.licence else [],
    )


def _labeled_splits(intake: Intake, config: PrepareConfig) -> Splits:
    """Read the annotated images and make their splits; without splits if there is a problem."""
    given = intake.read_annotated()
    if intake.sound:
        try:
            splits, left_out = partition(given, config.data, config.seed)
        except DataError as error:
            intake.refuse(error.problems)
        else:
            intake.left_out += left_out
            return splits
    return {split: given.get(split, []) for split in LABELED_SPLITS}


def _write_unlabeled(intake: Intake, splits: Splits, writer: DatasetWriter) -> int:
    """Write the unlabelled images as they are read, for as long as there is no problem; return their number."""
    taken = {image.record.digest for images in splits.values() for image in images}
    images = 0
    for record in intake.read_unlabeled(taken):
        images += 1
        if intake.sound:
            writer.add("unlabeled", record)
    if intake.sound and not images:
        intake.refuse(["no unlabelled image is left: all of data.unlabeled are images of the other splits; add others"])
    return images


def _counts(images: Sequence[AnnotatedImage]) -> dict[str, int]:
    crowd = Counter(item.is_crowd for image in images for item in image.labels.instances)
    return {"images": len(images), "instances": crowd[False], "crowd_regions": crowd[True]}


def _facts(intake: Intake, splits: Splits) -> dict[str, Any]:
    coco = intake.annotated["labeled"].coco
    histogram = Counter(
        item.category for image in splits["labeled"] for item in image.labels.instances if not item.is_crowd
    )
    return {
        "classes": coco.classes,
        "category_ids": [coco.category_ids[name] for name in coco.classes],
        "class_histogram": {name: histogram[index] for index, name in enumerate(coco.classes)},
        "left_out": {reason: count for reason, count in sorted(intake.left_out.items()) if count},
    }


def _steps(progress: Progress) -> Callable[[int, int], None]:
    """Return what reports reading, some hundred times in all."""

    def step(done: int, total: int) -> None:
        if done == total or done % max(1, total // _UPDATES) == 0:
            progress.update(done, total, "images")

    return step


def _tell(progress: Progress, facts: Mapping[str, Any]) -> None:
    """Say what a person may not expect."""
    if facts["left_out"]:
        listed = ", ".join(f"{reason.replace('_', ' ')}: {count}" for reason, count in facts["left_out"].items())
        progress.note(f"left out: {listed}")
    absent = [name for name, count in facts["class_histogram"].items() if not count]
    if absent:
        progress.note(f"no labelled object of: {', '.join(absent)}")
