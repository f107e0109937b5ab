"""Images that arrive after the first training: the demo's scenes as another camera shows them, with and without
annotations, and images of nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sskd_core.data.masks import encode_mask, mask_bbox
from sskd_core.data.scenes import CLASSES, HEIGHT, WIDTH, render_scene

Picture = NDArray[np.uint8]


def fogged(image: Picture) -> Picture:
    """Return a scene as a lens shows it that fogs up: half the contrast, and bright."""
    pixels: Picture = np.minimum(image * 0.5 + 120, 255).astype(np.uint8)
    return pixels


def noise(image: Picture) -> Picture:
    """Return what has nothing to do with the scenes."""
    return np.random.default_rng(int(image.sum())).integers(0, 255, image.shape, dtype=np.uint8)


def write_images(folder: Path, count: int, look: Callable[[Picture], Picture], seed: int) -> str:
    """Write bare images of scenes that no split of the demo has; return the folder."""
    folder.mkdir(parents=True)
    for index in range(count):
        Image.fromarray(look(render_scene(seed, "target", "new", index).image)).save(folder / f"{index:04d}.png")
    return str(folder)


def write_test_split(folder: Path, count: int, seed: int) -> tuple[str, str]:
    """Write an annotated split of the fogged look; return its annotations, in COCO format, and the images' folder."""
    (folder / "images").mkdir(parents=True)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for index in range(count):
        scene, name = render_scene(seed, "target", "new-test", index), f"{index:04d}.png"
        Image.fromarray(fogged(scene.image)).save(folder / "images" / name)
        images.append({"id": index, "file_name": name, "height": HEIGHT, "width": WIDTH})
        for category, mask in zip(scene.categories, scene.masks, strict=True):
            rle = encode_mask(mask)
            item = {"category_id": category, "segmentation": rle, "area": int(mask.sum()), "bbox": list(mask_bbox(rle))}
            annotations.append({"id": len(annotations), "image_id": index, "iscrowd": 0, **item})
    categories = [{"id": number, "name": name} for number, name in enumerate(CLASSES)]
    document = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "test.json").write_text(json.dumps(document), encoding="utf-8")
    return str(folder / "test.json"), str(folder / "images")
