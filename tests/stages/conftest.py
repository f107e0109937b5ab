"""A small data set in the real store, a teacher that finds bright rectangles, and a way to run the labelling."""

from __future__ import annotations

import datetime as dt
import io
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sskd_core.config.label import PseudoLabelConfig, PseudoLabelStageConfig
from sskd_core.data.index import encode_index
from sskd_core.data.masks import encode_mask, mask_area, mask_bbox
from sskd_core.data.records import ImageRecord, Instance
from sskd_core.progress import Progress
from sskd_core.stages import collect_labels, pseudo_label
from sskd_core.stages.contract import StageContext, execute, stage_fingerprint, stage_prefix
from sskd_core.storage.digest import digest_bytes, digest_json
from sskd_core.storage.manifest import Manifest
from sskd_core.storage.store import ObjectStore
from sskd_core.tracking.run import NullRun

CLASSES = ["disc", "box", "star"]
HEIGHT, WIDTH = 24, 32


def png(number: int, enlarge: int) -> bytes:
    """Draw a rectangle whose brightness names its class; every fifth image has none."""
    pixels = np.full((HEIGHT, WIDTH, 3), 10, dtype=np.uint8)
    if number % 5:
        y, x = number % 9, number % 13
        pixels[y : y + 8, x : x + 10] = 100 + 50 * (number % 3)
    stream = io.BytesIO()
    Image.fromarray(pixels.repeat(enlarge, axis=0).repeat(enlarge, axis=1)).save(stream, "PNG")
    return stream.getvalue()


@dataclass
class RectangleTeacher:
    """Finds the rectangle of `png`.

    Attributes:
        fail_after: raise instead of predicting more images than this.
        on_batch: called with the number of images seen so far.
        seen: how many images it was asked about.
        batches: how many at a time.
    """

    classes: list[str] = field(default_factory=lambda: list(CLASSES))
    fail_after: int | None = None
    on_batch: Callable[[int], None] = lambda seen: None
    seen: int = 0
    batches: list[int] = field(default_factory=list)

    def predict(self, images: list[np.ndarray]) -> list[list[Instance]]:
        """Return one instance an image, none on an empty one."""
        if self.fail_after is not None and self.seen + len(images) > self.fail_after:
            raise RuntimeError("the machine went away")
        self.seen += len(images)
        self.batches.append(len(images))
        self.on_batch(self.seen)
        return [self._find(image) for image in images]

    def _find(self, image: np.ndarray) -> list[Instance]:
        mask = image[..., 0] > 50
        if not mask.any():
            return []
        rle = encode_mask(mask)
        brightest = int(image.max())
        return [
            Instance(
                category=(brightest - 100) // 50,
                rle=rle,
                score=brightest / 255,
                bbox=mask_bbox(rle),
                area=float(mask_area(rle)),
            )
        ]


@dataclass
class Labelling:
    """Runs the labelling stage on a data set of `images` images, in the same prefix each time."""

    store: ObjectStore
    classes: list[str]
    inputs: dict[str, Manifest]
    records: list[ImageRecord]
    workdir: Path

    def config(self, worker: int = 0, workers: int = 1, **label: object) -> PseudoLabelStageConfig:
        """Return a configuration with shards of 8 images and batches of 3."""
        values = {"shard_images": 8, "batch": 3, **label}
        return PseudoLabelStageConfig(label=PseudoLabelConfig(**values), worker=worker, workers=workers)

    def context(self, config: PseudoLabelStageConfig) -> StageContext:
        """Return the context of the stage with this configuration."""
        identity = stage_fingerprint("pseudo_label", config, self.inputs)
        return StageContext(
            store=self.store,
            run=NullRun(),
            progress=Progress("pseudo_label", self.workdir),
            prefix=stage_prefix(self.store, "pseudo_label", identity),
            workdir=self.workdir,
            fingerprint=identity,
        )

    def work(self, config: PseudoLabelStageConfig, teacher: RectangleTeacher) -> Manifest:
        """Run one worker as the pipeline does."""

        def run(config, inputs, context):
            return pseudo_label.run_worker(config, inputs, context, lambda *_: teacher)

        part = pseudo_label.part_name(config)
        return execute("pseudo_label", run, config, self.inputs, self.context(config), part=part)

    def collect(self, config: PseudoLabelStageConfig) -> Manifest:
        """Collect as the pipeline does."""
        return execute("pseudo_label", collect_labels.run, config, self.inputs, self.context(config))

    def shard_uris(self, config: PseudoLabelStageConfig) -> list[str]:
        """List the shards that are there; their names hold their digests."""
        return [item.uri for item in self.store.list(f"{self.context(config).prefix}/shards")]


@pytest.fixture
def rectangle_teacher() -> type[RectangleTeacher]:
    """The class of the stand-in teacher."""
    return RectangleTeacher


@pytest.fixture
def make_labelling(store: ObjectStore, tmp_path: Path) -> Callable[..., Labelling]:
    """Return a function that puts a data set of some images into the store."""

    def make(images: int, enlarge: int = 1) -> Labelling:
        records = []
        size = (WIDTH * enlarge, HEIGHT * enlarge)
        for number in range(images):
            data, uri = png(number, enlarge), f"{store.root}/images/{number:04d}.png"
            store.put(uri, data, "image/png")
            records.append(ImageRecord(f"{number:04d}.png", uri, digest_bytes(data), len(data), *size))
        index = store.put_output("images/unlabeled/00000", f"{store.root}/index.parquet", encode_index(records))
        facts = {
            "classes": CLASSES,
            "counts": {"unlabeled": {"images": images}},
            "class_histogram": {"disc": 5, "box": 5, "star": 5},
        }
        inputs = {
            "data": _manifest("prepare", store, outputs=[index], facts=facts, licences=["CC-BY-4.0"]),
            "teacher": _manifest("adapt_teacher", store),
        }
        return Labelling(store, CLASSES, inputs, records, tmp_path / "work")

    return make


def _manifest(stage: str, store: ObjectStore, **values: object) -> Manifest:
    return Manifest(
        stage=stage,
        fingerprint=digest_json([stage, values.get("facts")]),
        config_digest=digest_json({}),
        code_digest=digest_json({}),
        created=dt.datetime(2025, 1, 1, tzinfo=dt.UTC),
        uri=f"{store.root}/stages/{stage}/manifest.json",
        **values,
    )
