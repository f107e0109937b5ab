"""What 100 thousand, a million and 100 million unlabelled images cost, from what one shard and one record cost here.

    python benchmarks/scale.py --prepare-rate 900 --label-rate 28 --train-rate 17 --request-ms 20

Measured: bytes of label and index shards, of the records beside them and of the lists that name them, and the memory in
which a process holds labels and index. Given: images a second of `prepare`, of a labelling worker and of a training
process (`scaling.py` measures the three), and the time of a request to the object store. Everything else is arithmetic.
The last table says up to how many images each limit of a default installation reaches; the first row is the limit that
is hit first.
"""

from __future__ import annotations

import argparse
import platform
import sys
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np

from sskd_core.config.data import PrepareConfig
from sskd_core.config.label import PseudoLabelConfig
from sskd_core.data.index import decode_index, encode_index
from sskd_core.data.masks import encode_mask, mask_area, mask_bbox
from sskd_core.data.records import ImageRecord, Instance, LabeledImage
from sskd_core.data.scenes import CLASSES, HEIGHT, WIDTH, render_scene
from sskd_core.labels.schema import decode_shard, encode_shard
from sskd_core.labels.statistics import count_labels
from sskd_core.labels.store import LISTED_SHARDS
from sskd_core.labels.writer import READERS, ShardRecord
from sskd_core.storage.digest import canonical_json, digest_bytes
from sskd_core.storage.manifest import ObjectRef

SIZES = (100_000, 1_000_000, 100_000_000)
_GIB = 2**30
_PREFIX = "s3://a-bucket/a-prefix/stages/pseudo_label/0123456789abcdef0123456789abcdef"


@dataclass(frozen=True)
class Costs:
    """What was measured; bytes.

    Attributes:
        label: of a label shard, an image.
        instances: an image.
        index: of an index shard, an image.
        record: beside a label shard.
        name: of a shard in a list of shards.
        label_memory: of an image's labels in a process.
        index_memory: of an image's record in a process.
    """

    label: float
    instances: float
    index: float
    record: float
    name: float
    label_memory: float
    index_memory: float


def memory_of(make: Callable[[], Any]) -> int:
    """Return the bytes that a result keeps allocated."""
    tracemalloc.start()
    kept = make()
    found, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    del kept
    return found


def labels(count: int, enlarge: int) -> list[LabeledImage]:
    """Return the masks of rendered scenes, enlarged, as a teacher would store them."""
    rng = np.random.default_rng(0)
    found = []
    for number in range(count):
        # All different: compression would find what repeats.
        scene, instances = render_scene(0, "target", "scale", number), []
        for category, mask in zip(scene.categories, scene.masks, strict=True):
            rle = encode_mask(mask.repeat(enlarge, 0).repeat(enlarge, 1))
            score, quality = (float(value) for value in rng.random(2))
            instances.append(
                Instance(
                    category,
                    rle,
                    score=score * quality,
                    class_score=score,
                    mask_score=quality,
                    bbox=mask_bbox(rle),
                    area=float(mask_area(rle)),
                )
            )
        name = digest_bytes(str(number).encode()).removeprefix("sha256:")[:16]
        found.append(LabeledImage(f"unlabeled/{name}", WIDTH * enlarge, HEIGHT * enlarge, instances))
    return found


def measure(shard_images: int, index_images: int, enlarge: int) -> Costs:
    """Encode one shard of each kind and see."""
    images = labels(shard_images, enlarge)
    data = encode_shard(images, digest_bytes(b"labeller"))
    uri = f"{_PREFIX}/shards/00000-0123456789ab.parquet"
    ref = ObjectRef(name="shards/00000", uri=uri, digest=digest_bytes(data), bytes=len(data), media_type="x" * 30)
    statistics = count_labels(images, list(CLASSES), {"score": 100, "area": 10}, 1.0)
    record = canonical_json(ShardRecord(index=0, shard=ref, statistics=statistics).model_dump(mode="json"))
    records = [
        ImageRecord(
            f"unlabeled/{number:08d}",
            f"s3://a-bucket/camera-7/2026/{number:08d}.jpg",
            digest_bytes(str(number).encode()),
            300_000 + number,
            WIDTH * enlarge,
            HEIGHT * enlarge,
        )
        for number in range(index_images)
    ]
    index = encode_index(records)
    return Costs(
        label=len(data) / shard_images,
        instances=sum(len(image.instances) for image in images) / shard_images,
        index=len(index) / index_images,
        record=len(record),
        name=len(canonical_json(ref.model_dump(mode="json"))),
        label_memory=memory_of(lambda: {item.image_id: item for item in decode_shard(data, uri)}) / shard_images,
        index_memory=memory_of(lambda: decode_index(index, uri)) / index_images,
    )


def size(count: float) -> str:
    """Return bytes for people."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} PB"


def costs_table(costs: Costs, arguments: argparse.Namespace) -> str:
    """Return what so many images cost."""
    rows: dict[str, Callable[[int], str]] = {
        "label shards": lambda images: f"{shards(images, arguments):,}",
        "label shards, bytes": lambda images: size(images * costs.label),
        "records beside them, bytes": lambda images: size(shards(images, arguments) * costs.record),
        "manifest of the labels": lambda images: size(in_manifest(images, costs, arguments)),
        "list of the label shards": lambda images: size(in_list(images, costs, arguments)),
        "index shards": lambda images: f"{-(-images // arguments.index_images):,}",
        "index, bytes": lambda images: size(images * costs.index),
        "objects": lambda images: f"{2 * shards(images, arguments) + -(-images // arguments.index_images):,}",
        "labels in a training process": lambda images: size(images * (costs.label_memory + costs.index_memory)),
        "index in a labelling worker": lambda images: size(images * costs.index_memory),
        "preparing, hours": lambda images: f"{images / arguments.prepare_rate / 3600:,.3g}",
        f"labelling, hours of {arguments.workers} workers": lambda images: (
            f"{images / arguments.label_rate / arguments.workers / 3600:,.3g}"
        ),
        f"one epoch of training, hours of {arguments.processes} processes": lambda images: (
            f"{images / arguments.train_rate / arguments.processes / 3600:,.3g}"
        ),
        "collecting, minutes": lambda images: f"{collecting(images, arguments) / 60:,.3g}",
    }
    lines = ["| | " + " | ".join(f"{images:,}" for images in SIZES) + " |", "|---" * (1 + len(SIZES)) + "|"]
    lines += [f"| {name} | " + " | ".join(value(images) for images in SIZES) + " |" for name, value in rows.items()]
    return "\n".join(lines)


def shards(images: int, arguments: argparse.Namespace) -> int:
    """Return the number of label shards."""
    return -(-images // int(arguments.shard_images))


def in_manifest(images: int, costs: Costs, arguments: argparse.Namespace) -> float:
    """Return the bytes by which the manifest names the shards: each, or the list."""
    count = shards(images, arguments)
    return costs.name * (count if count <= LISTED_SHARDS else 1)


def in_list(images: int, costs: Costs, arguments: argparse.Namespace) -> float:
    """Return the bytes of the object that lists the shards, where there is one."""
    count = shards(images, arguments)
    return 0.0 if count <= LISTED_SHARDS else costs.name * count


def collecting(images: int, arguments: argparse.Namespace) -> float:
    """Return the seconds in which the records beside the shards are read, some at a time."""
    return shards(images, arguments) * float(arguments.request_ms) / 1000 / READERS


def limits_table(costs: Costs, arguments: argparse.Namespace) -> str:
    """Return up to how many images each limit reaches, the nearest first."""
    memory = arguments.memory_gib * _GIB
    per_image = costs.label_memory + costs.index_memory
    limits = {
        f"labels and index in a training process, {arguments.memory_gib} GiB": memory / per_image,
        f"index in a labelling worker, {arguments.memory_gib} GiB": memory / costs.index_memory,
        f"labelling by {arguments.workers} workers within {arguments.hours} h": (
            arguments.hours * 3600 * arguments.label_rate * arguments.workers
        ),
        f"preparing within {arguments.prepare_hours} h": arguments.prepare_hours * 3600 * arguments.prepare_rate,
        f"collecting within {arguments.light_minutes} min": (
            arguments.light_minutes * 60 * READERS / arguments.request_ms * 1000 * arguments.shard_images
        ),
    }
    lines = ["| limit | images |", "|---|---|"]
    lines += [f"| {name} | {count:,.2g} |" for name, count in sorted(limits.items(), key=lambda item: item[1])]
    return "\n".join(lines)


def main() -> None:
    """Measure, compute and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prepare-rate", type=float, required=True, help="images/s that `prepare` reads")
    parser.add_argument("--label-rate", type=float, required=True, help="images/s of a labelling worker")
    parser.add_argument("--train-rate", type=float, required=True, help="images/s of a training process")
    parser.add_argument("--workers", type=int, default=16)
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument("--request-ms", type=float, default=20.0, help="of a small object from the store")
    parser.add_argument("--shard-images", type=int, default=PseudoLabelConfig().shard_images)
    parser.add_argument("--index-images", type=int, default=PrepareConfig.model_fields["shard_images"].default)
    parser.add_argument("--enlarge", type=int, default=8, help="of 96 x 128 pixels")
    parser.add_argument("--memory-gib", type=int, default=64, help="of a GPU task")
    parser.add_argument("--hours", type=int, default=48, help="time-out of a GPU task")
    parser.add_argument("--prepare-hours", type=int, default=12, help="time-out of a CPU task")
    parser.add_argument("--light-minutes", type=int, default=30, help="time-out of a light task")
    arguments = parser.parse_args()
    costs = measure(arguments.shard_images, arguments.index_images, arguments.enlarge)
    print(
        f"Measured, {WIDTH * arguments.enlarge} x {HEIGHT * arguments.enlarge} pixels, {costs.instances:.1f} instances "
        f"an image: {costs.label:.0f} B of label shard, {costs.index:.0f} B of index, {costs.record:.0f} B of record a "
        f"shard, {costs.name:.0f} B of name a shard; in memory {costs.label_memory:.0f} B of labels and "
        f"{costs.index_memory:.0f} B of index an image."
    )
    print(
        f"Given: {arguments.prepare_rate:g} images/s of preparing, {arguments.label_rate:g} of a labelling worker, "
        f"{arguments.train_rate:g} of a training process, "
        f"{arguments.request_ms:g} ms a request, {READERS} requests at a time.\n"
    )
    print(costs_table(costs, arguments), limits_table(costs, arguments), sep="\n\n")
    print(f"\nPython {platform.python_version()}, {sys.platform}, pyarrow {version('pyarrow')}")


if __name__ == "__main__":
    main()
