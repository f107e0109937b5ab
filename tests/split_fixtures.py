"""A prepared data set of a few rectangles, and networks as training stages deliver them, in a real store."""

from __future__ import annotations

import datetime as dt
import io
from pathlib import Path
from typing import Any

from engine_fixtures import CLASSES, Rectangles, labeled_image
from PIL import Image

from sskd_core.config.base import StrictModel
from sskd_core.data.index import encode_index
from sskd_core.data.records import ImageRecord, LabeledImage
from sskd_core.labels.schema import encode_shard
from sskd_core.models.protocol import SegmentationModel
from sskd_core.models.trained import save_trained
from sskd_core.progress import Progress
from sskd_core.stages.contract import StageContext, stage_fingerprint, stage_prefix
from sskd_core.storage.digest import digest_bytes, digest_json
from sskd_core.storage.manifest import Manifest
from sskd_core.storage.store import ObjectStore
from sskd_core.tracking.run import NullRun


def prepared(store: ObjectStore, images: int, split: str = "test") -> Manifest:
    """Put a split of rectangles into the store and return its manifest."""
    data = Rectangles(images)
    records: list[ImageRecord] = []
    truth: list[LabeledImage] = []
    for index in range(images):
        stream = io.BytesIO()
        Image.fromarray(data[index].image).save(stream, "PNG")
        name, uri = f"{index:03d}.png", f"{store.root}/images/{index:03d}.png"
        store.put(uri, stream.getvalue(), "image/png")
        digest = digest_bytes(stream.getvalue())
        records.append(ImageRecord(name, uri, digest, len(stream.getvalue()), data.width, data.height))
        truth.append(labeled_image(name, data[index]))
    outputs = [
        store.put_output(f"images/{split}/00000", f"{store.root}/index.parquet", encode_index(records)),
        store.put_output(
            f"ground_truth/{split}/00000", f"{store.root}/truth.parquet", encode_shard(truth, "ground_truth")
        ),
    ]
    facts = {
        "classes": CLASSES,
        "counts": {split: {"images": images, "instances": sum(len(item.instances) for item in truth)}},
        "class_histogram": dict.fromkeys(CLASSES, 1),
    }
    return manifest("prepare", store, "data", outputs=outputs, facts=facts, licences=["CC-BY-4.0"])


def trained(model: SegmentationModel, store: ObjectStore, name: str, **values: Any) -> Manifest:
    """Deliver a network as a training stage does; its initial values were those of seed 5."""
    config = {"model": model.config.fingerprint_dict(), "seed": 5}
    outputs = save_trained(model, store, f"{store.root}/stages/{name}")
    return manifest("refine", store, name, outputs=outputs, config=config, metrics={"val_mask_ap": 12.5}, **values)


def manifest(stage: str, store: ObjectStore, name: str, **values: Any) -> Manifest:
    """Return a manifest of `stage`."""
    return Manifest(
        stage=stage,
        fingerprint=digest_json([stage, name]),
        config_digest=digest_json({}),
        code_digest=digest_json({}),
        created=dt.datetime(2025, 1, 1, tzinfo=dt.UTC),
        uri=f"{store.root}/stages/{name}/manifest.json",
        **values,
    )


def context_of(
    stage: str, config: StrictModel, inputs: dict[str, Manifest], store: ObjectStore, workdir: Path
) -> StageContext:
    """Return what `execute` needs; progress goes to `<workdir>/<stage>.jsonl`."""
    identity = stage_fingerprint(stage, config, inputs)
    scratch = workdir / "scratch"
    scratch.mkdir(exist_ok=True)
    return StageContext(
        store=store,
        run=NullRun(),
        progress=Progress(stage, workdir),
        prefix=stage_prefix(store, stage, identity),
        workdir=scratch,
        fingerprint=identity,
    )
