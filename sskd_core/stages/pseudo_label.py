"""The labelling worker: a teacher labels the unlabelled images of the shards that this worker owns.

Shard i holds a fixed slice of the data set's index and belongs to worker i modulo `workers`, so labels do not
depend on how many workers there are. A worker skips what is there, keeps two batches of images in memory, and
may be killed at any time: the next one goes on at the first missing shard. `collect_labels` commits the stage.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sskd_core.config.label import PseudoLabelConfig, PseudoLabelStageConfig
from sskd_core.data.dataset import Dataset
from sskd_core.data.records import ImageRecord, Instance, LabeledImage
from sskd_core.errors import ConfigError, UserError
from sskd_core.interrupt import StopSignal
from sskd_core.labels.earlier import left_to_label
from sskd_core.labels.filter import LabelFilter
from sskd_core.labels.statistics import count_labels
from sskd_core.labels.writer import WORKERS, ShardSet, shard_count
from sskd_core.progress import Progress
from sskd_core.stages.contract import StageContext, StageResult
from sskd_core.storage.manifest import Manifest
from sskd_core.storage.store import ObjectStore

if TYPE_CHECKING:
    from sskd_core.models.protocol import Teacher

TeacherLoader = Callable[[Manifest, ObjectStore, PseudoLabelConfig, float], "Teacher"]
ReadImage = Callable[[ImageRecord], NDArray[np.uint8]]
Batch = tuple[Sequence[ImageRecord], list[NDArray[np.uint8]]]
_DECODE_THREADS = 4
_CANDIDATES_PER_LABEL = 2


def run_worker(
    config: PseudoLabelStageConfig,
    inputs: Mapping[str, Manifest],
    context: StageContext,
    load_teacher: TeacherLoader | None = None,
) -> StageResult:
    """Label the shards of one worker; to be executed with `part=part_name(config)`.

    Args:
        config: which worker of how many, and the rules.
        inputs: `data`, the prepared data set, and `teacher`, a training stage; with `earlier`, collected labels of the
            data set that this one goes on from, only the images that they do not cover are labelled.
        context: of the `pseudo_label` stage.
        load_teacher: (teacher manifest, store, rules, least score of a candidate) -> teacher; default: the
            network that the manifest names.

    Returns:
        No outputs: shards are found below the prefix. Facts count what this worker owns.

    Raises:
        UserError: no such worker, an unknown class in the rules, or a teacher with other classes.
        Interrupted: SIGTERM arrived; finished shards are kept.
    """
    if config.worker >= config.workers:
        raise ConfigError(f"worker {config.worker} of {config.workers}: workers count from 0")
    dataset = Dataset.load(inputs["data"], context.store)
    records = left_to_label(dataset.images("unlabeled"), config, inputs)
    size = config.label.shard_images
    own = range(config.worker, shard_count(len(records), size), config.workers)
    slices = {index: records[index * size : (index + 1) * size] for index in own}
    shards = ShardSet(context.store, context.prefix)
    finished = shards.finished(own)
    missing = {index: part for index, part in slices.items() if index not in finished}
    if missing:
        rules = LabelFilter(config.label, dataset.classes)
        load = load_teacher or load_trained_teacher
        teacher = load(inputs["teacher"], context.store, config.label, rules.candidate_score)
        _check_classes(teacher.classes, dataset.classes)
        labelling = _Labelling(dataset, teacher, rules, config.label.batch, inputs["teacher"].fingerprint, shards)
        labelling.run(missing, _images(slices), context.progress)
    facts = {
        "worker": config.worker,
        "workers": config.workers,
        "shards": len(own),
        "images": _images(slices),
    }
    return StageResult(outputs=[], facts=facts)


def part_name(config: PseudoLabelStageConfig) -> str:
    """Return the name of a worker's own manifest below the stage's prefix."""
    return f"{WORKERS}/{config.worker}-of-{config.workers}"


def load_trained_teacher(
    manifest: Manifest, store: ObjectStore, config: PseudoLabelConfig, candidate_score: float
) -> Teacher:
    """Load the network of a training stage as a teacher."""
    from sskd_core.models.flipped import Flipped
    from sskd_core.models.predict import make_predictor
    from sskd_core.models.trained import load_trained

    teacher = make_predictor(
        load_trained(manifest, store),
        score_threshold=candidate_score,
        # More than will be kept, since overlaps are removed first.
        max_instances=_CANDIDATES_PER_LABEL * config.max_instances,
        mask_threshold=config.mask_threshold,
    )
    return Flipped(teacher) if config.flip else teacher


@dataclass(frozen=True)
class _Labelling:
    """What labels images, and where their shards go."""

    dataset: Dataset
    teacher: Teacher
    rules: LabelFilter
    batch: int
    labeller: str
    shards: ShardSet

    def run(self, missing: Mapping[int, Sequence[ImageRecord]], total: int, progress: Progress) -> None:
        """Label the missing shards; `total` counts the images of the finished ones too."""
        done = total - _images(missing)
        parts = missing.values()
        batches = (part[i : i + self.batch] for part in parts for i in range(0, len(part), self.batch))
        with StopSignal() as stop, closing(_read_ahead(batches, self.dataset.read_image)) as ready:
            for index, part in missing.items():
                shard = _OpenShard()
                while len(shard.images) < len(part):
                    stop.check()
                    done += self._label(shard, *next(ready))
                    progress.update(done, total, "images")
                figures = count_labels(shard.images, self.dataset.classes, shard.rejected, shard.best_score)
                self.shards.write(index, shard.images, self.labeller, figures)

    def _label(self, shard: _OpenShard, records: Sequence[ImageRecord], images: list[NDArray[np.uint8]]) -> int:
        for record, found in zip(records, self.teacher.predict(images), strict=True):
            shard.add(record, found, self.rules)
        return len(records)


@dataclass
class _OpenShard:
    """The labels of a shard until it is written."""

    images: list[LabeledImage] = field(default_factory=list)
    rejected: Counter[str] = field(default_factory=Counter)
    best_score: float = 0.0

    def add(self, record: ImageRecord, candidates: Sequence[Instance], rules: LabelFilter) -> None:
        kept, rejected = rules.apply(candidates)
        self.images.append(LabeledImage(record.image_id, record.width, record.height, kept))
        self.rejected.update(rejected)
        self.best_score = max([self.best_score, *(item.score for item in candidates)])


def _read_ahead(batches: Iterable[Sequence[ImageRecord]], read: ReadImage) -> Generator[Batch, None, None]:
    """Yield batches with their images; while one is in use, threads decode the next."""
    pool = ThreadPoolExecutor(_DECODE_THREADS, thread_name_prefix="decode")
    waiting: deque[tuple[Sequence[ImageRecord], list[Future[NDArray[np.uint8]]]]] = deque()
    try:
        for records in batches:
            waiting.append((records, [pool.submit(read, record) for record in records]))
            if len(waiting) > 1:
                yield _wait(*waiting.popleft())
        while waiting:
            yield _wait(*waiting.popleft())
    finally:
        pool.shutdown(cancel_futures=True)


def _wait(records: Sequence[ImageRecord], images: Iterable[Future[NDArray[np.uint8]]]) -> Batch:
    return records, [image.result() for image in images]


def _images(slices: Mapping[int, Sequence[ImageRecord]]) -> int:
    return sum(len(records) for records in slices.values())


def _check_classes(teacher: Sequence[str], data: Sequence[str]) -> None:
    if list(teacher) != list(data):
        raise UserError(
            f"the teacher's classes ({', '.join(teacher)}) are not the data set's ({', '.join(data)}); "
            "pass a teacher that was adapted on this data set"
        )
