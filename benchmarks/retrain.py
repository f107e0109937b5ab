"""What a retrain costs beside the run that made its champion: compute of the stages, on the demo.

    python benchmarks/retrain.py              # 5 % new images of a shifted look, then poisoned ones

Runs the demo, adds unlabelled scenes that are darker and green and a test split of the same look, and goes on from the
champion; then does it again with noise in place of scenes. Prints seconds a stage, the gate's figures and its verdicts.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sskd_core.data.masks import encode_mask, mask_bbox
from sskd_core.data.scenes import CLASSES, HEIGHT, WIDTH, Scene, render_scene

LOOK = np.array([0.55, 0.85, 0.55])
"""What the new camera does to red, green and blue."""
SSKD = str(Path(sys.executable).parent / "sskd")
TEST_IMAGES = 100


def sskd(state: Path, *arguments: str) -> dict[str, Any]:
    """Run a command and return its JSON answer."""
    command = [SSKD, *arguments, "--state-dir", str(state), "--json"]
    answer: dict[str, Any] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return answer


def shifted(scene: Scene) -> NDArray[np.uint8]:
    """Return the scene as the new camera sees it."""
    pixels: NDArray[np.uint8] = (scene.image * LOOK).astype(np.uint8)
    return pixels


def noise(scene: Scene) -> NDArray[np.uint8]:
    """Return an image of nothing."""
    return np.random.default_rng(int(scene.image.sum())).integers(0, 255, scene.image.shape, dtype=np.uint8)


def write_unlabeled(folder: Path, count: int, look: Callable[[Scene], NDArray[np.uint8]], seed: int) -> None:
    """Write bare images."""
    folder.mkdir(parents=True)
    for index in range(count):
        Image.fromarray(look(render_scene(seed, "target", "new", index))).save(folder / f"{index:04d}.png")


def write_test(folder: Path, seed: int) -> str:
    """Write an annotated split of the new look; return the option's value."""
    (folder / "images").mkdir(parents=True)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for index in range(TEST_IMAGES):
        scene, name = render_scene(seed, "target", "new-test", index), f"{index:04d}.png"
        Image.fromarray(shifted(scene)).save(folder / "images" / name)
        images.append({"id": index, "file_name": name, "height": HEIGHT, "width": WIDTH})
        for category, mask in zip(scene.categories, scene.masks, strict=True):
            rle = encode_mask(mask)
            item = {"category_id": category, "segmentation": rle, "area": int(mask.sum()), "bbox": list(mask_bbox(rle))}
            annotations.append({"id": len(annotations), "image_id": index, "iscrowd": 0, **item})
    categories = [{"id": number, "name": name} for number, name in enumerate(CLASSES)]
    document = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "test.json").write_text(json.dumps(document), encoding="utf-8")
    return f"{folder / 'test.json'}={folder / 'images'}"


def table(full: dict[str, Any], again: dict[str, Any], stands: set[str]) -> str:
    """Return a Markdown table of seconds a stage of both runs."""
    lines = ["| stage | full run, s | retrain, s |", "|---|---|---|"]
    total = [0.0, 0.0]
    for name, item in full["stages"].items():
        seconds = (item["seconds"], 0.0 if name in stands else again["stages"][name]["seconds"])
        total = [total[0] + seconds[0], total[1] + seconds[1]]
        lines.append(f"| {name} | {seconds[0]:.1f} | {'stands' if name in stands else f'{seconds[1]:.1f}'} |")
    lines.append(f"| all, {100 * total[1] / total[0]:.0f} % | {total[0]:.1f} | {total[1]:.1f} |")
    return "\n".join(lines)


def gate(results: dict[str, Any]) -> str:
    """Return the verdict and the reasons that speak of the champion."""
    lines = [f"passed: {results['verdict']['passed']}"]
    lines += [f"- {rule['name']}: {rule['verdict']}: {rule['reason']}" for rule in results["verdict"]["rules"]]
    return "\n".join(lines)


def main() -> None:
    """Run and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--new", type=int, default=40, help="new images; the demo has 800 unlabelled ones")
    parser.add_argument("--set", action="append", default=[], dest="overrides", help="passed to the retrain")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        state, data = Path(folder) / "state", Path(folder) / "data"
        overrides = [word for item in arguments.overrides for word in ("--set", item)]
        full = sskd(state, "demo", "--seed", str(arguments.seed))
        write_unlabeled(data / "camera", arguments.new, shifted, arguments.seed)
        write_unlabeled(data / "poison", arguments.new, noise, arguments.seed + 1)
        options = ["retrain", "--test", write_test(data / "test", arguments.seed), *overrides]
        plan = sskd(state, *options, "--unlabeled", str(data / "camera"), "--dry-run")
        stands = {step["node"] for step in plan["steps"] if step["state"] == "stands"}
        again = sskd(state, *options, "--unlabeled", str(data / "camera"))
        print(table(full, again, stands), gate(again), sep="\n\n")
        poisoned = sskd(state, *options, "--unlabeled", str(data / "poison"))
        print("\nPoisoned:", gate(poisoned), sep="\n")
    print(f"\n{os.cpu_count()} cores, {full['device']}, {full['versions']}, {full['evaluator']}")


if __name__ == "__main__":
    main()
