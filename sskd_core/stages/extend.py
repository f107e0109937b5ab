"""`prepare` for a data set that goes on from another one: old shards by reference, new images in shards of their own.

No old image is read and no old shard is written again, so labels of old images stay valid: the unlabelled images of the
earlier data set come first, in their order, and the new ones after them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from typing import Any

from sskd_core.config.data import AddedData, LabeledSource, PrepareConfig
from sskd_core.data.annotated import AnnotatedImage, open_annotated, read_annotated
from sskd_core.data.dataset import LABELED_SPLITS, SPLITS, Dataset, ground_truth_prefix, images_prefix
from sskd_core.data.index import decode_index
from sskd_core.data.ingest import ImageReader
from sskd_core.data.writer import DatasetWriter
from sskd_core.errors import DataError
from sskd_core.stages.contract import StageContext, StageResult
from sskd_core.storage.manifest import Manifest, ObjectRef


def extend(config: PrepareConfig, added: AddedData, earlier: Manifest, context: StageContext) -> StageResult:
    """Prepare the data set.

    Args:
        config: of the stage.
        added: what is new.
        earlier: manifest of the data set that this one goes on from.
        context: see `StageContext`.

    Returns:
        As `prepare`; the fact `generation` counts how often the data set was extended.

    Raises:
        DataError: every problem of the new annotated images, or a test split without an object.
        IntegrityError: something of the earlier data set is not what it was.
    """
    dataset = Dataset.load(earlier, context.store)
    generation = int(earlier.facts.get("generation", 0)) + 1
    known = {split: {record.digest for record in dataset.images(split)} for split in SPLITS}
    found = _annotated(config, added, dataset, generation, context)
    left_out: Counter[str] = Counter()
    if added.test is not None:
        trained_on = known["labeled"] | known["val"] | known["unlabeled"]
        found["test"] = _without(found["test"], trained_on, "test_in_other_splits", left_out)
        known["test"] = {image.record.digest for image in found["test"]}
        if not any(not item.is_crowd for image in found["test"] for item in image.labels.instances):
            raise DataError("data.added.test: no object on an image that no model was trained on; add others")
    taken = known["labeled"] | known["val"] | known["test"]
    found["labeled"] = _without(found["labeled"], taken, "labeled_in_other_splits", left_out)
    taken |= {image.record.digest for image in found["labeled"]} | known["unlabeled"]

    kept = _kept(dataset.shards, replaced=["test"] if added.test is not None else [])
    writer = DatasetWriter(context.store, context.prefix, config.shard_images, kept)
    unlabeled = 0
    for record in _new_images(added, context):
        if record.digest in taken:
            left_out["unlabeled_in_other_splits"] += 1
        else:
            writer.add("unlabeled", record)
            unlabeled += 1
    digests = {"unlabeled": writer.close_split("unlabeled")}
    for split in LABELED_SPLITS:
        for image in found[split]:
            writer.add(split, image.record, image.labels)
        digests[split] = writer.close_split(split)
    for split, digest in digests.items():
        context.run.log_input(f"data.{split}", f"{context.prefix}/images/{split}", digest, split)
    counts = _counts(earlier, found, unlabeled, replaces_test=added.test is not None)
    return StageResult(
        outputs=writer.outputs(),
        metrics={f"{split}_images": float(item["images"]) for split, item in counts.items()},
        facts={
            **{key: earlier.facts[key] for key in ("classes", "category_ids") if key in earlier.facts},
            "counts": counts,
            "digests": digests,
            "class_histogram": _histogram(dataset, found["labeled"]),
            "left_out": {reason: count for reason, count in sorted(left_out.items()) if count},
            "generation": generation,
            "new_images": {"unlabeled": unlabeled, **{split: len(images) for split, images in found.items()}},
        },
        licences=[config.data.licence] if config.data.licence else [],
    )


def _annotated(
    config: PrepareConfig, added: AddedData, dataset: Dataset, generation: int, context: StageContext
) -> dict[str, list[AnnotatedImage]]:
    """Read the new annotated images; their ids start with the generation, so that no two are alike."""
    found: dict[str, list[AnnotatedImage]] = {split: [] for split in LABELED_SPLITS}
    problems: list[str] = []
    for number, (key, source) in enumerate(added.annotated().items()):
        images, own = _read(source, key, dataset.classes, config.data.max_pixels, context)
        problems += own
        split = "test" if key.endswith(".test") else "labeled"
        found[split] += [_renamed(image, f"+{generation}/{number}/{image.record.image_id}") for image in images]
    if problems:
        raise DataError(problems)
    return found


def _read(
    source: LabeledSource, key: str, classes: list[str], max_pixels: int, context: StageContext
) -> tuple[list[AnnotatedImage], list[str]]:
    opened = open_annotated(source, key, context.store, classes)
    reader = ImageReader(context.store, max_pixels)
    reader.copying = not opened.problems
    context.progress.note(f"reading {key}")
    images = list(read_annotated(opened, reader, lambda: None))
    return images, opened.problems


def _renamed(image: AnnotatedImage, image_id: str) -> AnnotatedImage:
    return AnnotatedImage(replace(image.record, image_id=image_id), replace(image.labels, image_id=image_id))


def _without(
    images: Iterable[AnnotatedImage], taken: Collection[str], reason: str, left_out: Counter[str]
) -> list[AnnotatedImage]:
    """Leave out images that are elsewhere, and repetitions."""
    kept: dict[str, AnnotatedImage] = {}
    for image in images:
        if image.record.digest in taken or image.record.digest in kept:
            left_out[reason] += 1
        else:
            kept[image.record.digest] = image
    return list(kept.values())


def _kept(shards: Iterable[ObjectRef], replaced: Collection[str]) -> list[ObjectRef]:
    prefixes = tuple(prefix(split) for split in replaced for prefix in (images_prefix, ground_truth_prefix))
    return [ref for ref in shards if not prefixes or not ref.name.startswith(prefixes)]


def _new_images(added: AddedData, context: StageContext) -> Iterable[Any]:
    if added.images is None:
        return []
    return decode_index(context.store.get(added.images.uri, added.images.digest), added.images.uri)


def _counts(
    earlier: Manifest, found: Mapping[str, list[AnnotatedImage]], unlabeled: int, replaces_test: bool
) -> dict[str, dict[str, int]]:
    counts: dict[str, dict[str, int]] = {split: dict(item) for split, item in earlier.facts["counts"].items()}
    if replaces_test:
        counts["test"] = dict.fromkeys(counts["test"], 0)
    counts["unlabeled"]["images"] += unlabeled
    for split, images in found.items():
        crowd = Counter(item.is_crowd for image in images for item in image.labels.instances)
        more = {"images": len(images), "instances": crowd[False], "crowd_regions": crowd[True]}
        counts[split] = {key: counts[split].get(key, 0) + more[key] for key in more}
    return counts


def _histogram(dataset: Dataset, labeled: Iterable[AnnotatedImage]) -> dict[str, int]:
    more = Counter(item.category for image in labeled for item in image.labels.instances if not item.is_crowd)
    return {name: dataset.class_histogram[name] + more[index] for index, name in enumerate(dataset.classes)}
