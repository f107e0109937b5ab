"""The demo's data set: rendered scenes of the target domain, put into the bucket as a user's data would lie there.

Three annotated splits in COCO format and a bare prefix of unlabelled images. The objects are named by their content's
recipe (seed and sizes), written once, and marked complete by a last object.
"""

from __future__ import annotations

import io
import json
import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

from PIL import Image
from pydantic import Field

from sskd_core.config.base import StrictModel
from sskd_core.config.data import DataConfig, LabeledSource
from sskd_core.data.masks import encode_mask, mask_bbox
from sskd_core.data.scenes import CLASSES, HEIGHT, WIDTH, render_scene
from sskd_core.storage.digest import digest_json
from sskd_core.storage.store import ObjectStore

_JPEG_QUALITY = 92
_WORTH_A_PROCESS = 200
"""Scenes. Rendering holds the interpreter lock, and a process takes a second to start."""
# Ids with gaps, as in COCO itself: nothing downstream may take a category id for a class index.
_CATEGORY_IDS = [1 + 3 * index for index in range(len(CLASSES))]


@dataclass(frozen=True)
class _Rendered:
    """One scene as it is stored; `objects` are in COCO form, without ids."""

    split: str
    index: int
    jpeg: bytes
    objects: list[dict[str, Any]]


class DemoSizes(StrictModel):
    """Images a split."""

    labeled: int = Field(24, ge=1)
    unlabeled: int = Field(800, ge=1)
    val: int = Field(60, ge=1)
    test: int = Field(200, ge=1)


def write_demo_dataset(
    store: ObjectStore, seed: int, sizes: DemoSizes | None = None, progress: Callable[[int, int], None] | None = None
) -> DataConfig:
    """Render the target domain into the store unless it is there already.

    Args:
        store: written below `{root}/demo-data/`.
        seed: of the scenes.
        sizes: images a split.
        progress: called with (images written, images in all).

    Returns:
        The `data` section of an experiment that uses it.
    """
    sizes = sizes or DemoSizes()
    recipe = {"seed": seed, "sizes": sizes.model_dump(), "classes": CLASSES, "version": 1}
    prefix = f"{store.root}/demo-data/{digest_json(recipe).removeprefix('sha256:')[:16]}"
    config = _config(prefix)
    if store.get_if_exists(f"{prefix}/complete.json") is not None:
        return config
    jobs = [(split, index) for split, count in sizes.model_dump().items() for index in range(count)]
    annotations: dict[str, list[tuple[int, list[dict[str, Any]]]]] = {split: [] for split in sizes.model_dump()}
    for done, scene in enumerate(_rendered(seed, jobs), 1):
        store.put(f"{prefix}/{scene.split}/images/{_name(scene.index)}", scene.jpeg, "image/jpeg")
        annotations[scene.split].append((scene.index, scene.objects))
        if progress is not None:
            progress(done, len(jobs))
    for split in ("labeled", "val", "test"):
        store.put(f"{prefix}/{split}/annotations.json", _coco(annotations[split]), "application/json")
    store.put(f"{prefix}/complete.json", json.dumps(recipe).encode(), "application/json")
    return config


def _config(prefix: str) -> DataConfig:
    sources = {
        split: LabeledSource(annotations=f"{prefix}/{split}/annotations.json", images=f"{prefix}/{split}/images")
        for split in ("labeled", "val", "test")
    }
    return DataConfig(**sources, unlabeled=[f"{prefix}/unlabeled/images"], licence="BSD-3-Clause")


def _rendered(seed: int, jobs: list[tuple[str, int]]) -> Iterator[_Rendered]:
    """Render the scenes, in order, on all cores where it pays."""
    processes = min(os.cpu_count() or 1, len(jobs) // _WORTH_A_PROCESS)
    if processes < 2:
        yield from (_render(seed, job) for job in jobs)
        return
    # Not forked: this process may have threads.
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(partial(_render, seed), jobs, chunksize=16)


def _render(seed: int, job: tuple[str, int]) -> _Rendered:
    split, index = job
    scene = render_scene(seed, "target", split, index)
    buffer = io.BytesIO()
    Image.fromarray(scene.image).save(buffer, "JPEG", quality=_JPEG_QUALITY)
    objects = []
    for category, mask in zip(scene.categories, scene.masks, strict=True):
        rle = encode_mask(mask)
        objects.append(
            {
                "category_id": _CATEGORY_IDS[category],
                "segmentation": rle,
                "area": int(mask.sum()),
                "bbox": list(mask_bbox(rle)),
                "iscrowd": 0,
            }
        )
    return _Rendered(split, index, buffer.getvalue(), objects)


def _name(index: int) -> str:
    return f"{index:06d}.jpg"


def _coco(scenes: list[tuple[int, list[dict[str, Any]]]]) -> bytes:
    images = [{"id": index + 1, "file_name": _name(index), "height": HEIGHT, "width": WIDTH} for index, _ in scenes]
    objects = [{"image_id": index + 1, **item} for index, found in scenes for item in found]
    document = {
        "info": {"description": "sskd demo scenes, target domain"},
        "images": images,
        "annotations": [{"id": number + 1, **item} for number, item in enumerate(objects)],
        "categories": [{"id": number, "name": name} for number, name in zip(_CATEGORY_IDS, CLASSES, strict=True)],
    }
    return json.dumps(document).encode()
