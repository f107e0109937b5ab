"""Images per second and peak memory of the real-size grounded teacher, batched against one by one.

    python benchmarks/teacher_throughput.py                                  # real input, for a GPU
    python benchmarks/teacher_throughput.py --height 256 --width 384 --sam-side 512 --images 4 --batches 1 4

Both networks have their real size and random values; speed does not depend on the values. Every image has `--boxes`
boxes. A row is a process of its own, so that its peak memory is its own: allocated on the GPU, or resident on a CPU.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import time
from importlib.metadata import version

import numpy as np
import torch

from sskd_core.config.model import InputConfig, ModelConfig
from sskd_core.models.build import construct
from sskd_core.models.grounded_predict import GroundedPredictor
from sskd_core.models.grounded_sam import GroundedSam
from sskd_core.models.grounding_prompt import CLS, SEP, STOP, Prompt, Span
from sskd_core.models.sam_masks import sam_large
from sskd_core.models.trained import default_device

CLASSES = ["person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle"]
REAL = {"height": 800, "width": 1333, "sam_side": 1024}
_FIRST_WORD = 2000
"""Any word of the vocabulary serves; the text tower's work does not depend on which."""


def teacher(height: int, width: int, side: int, boxes: int) -> GroundedSam:
    """Build the teacher; SAM gets a smaller input by its own configuration."""
    config = ModelConfig(
        family="grounded_sam",
        arch={"segmenter": sam_large(side)},
        grounding={"score_threshold": 0.0, "max_boxes": boxes},
        input=InputConfig(height=height, width=width),
    )
    model = construct(config, CLASSES, seed=0)
    assert isinstance(model, GroundedSam)
    words = [token for number in range(len(CLASSES)) for token in (_FIRST_WORD + number, STOP)]
    spans = tuple(Span(number, 1 + 2 * number, 2 + 2 * number) for number in range(len(CLASSES)))
    model.prompts = [Prompt((CLS, *words, SEP), spans)]
    return model.eval().to(default_device())


def measure(arguments: argparse.Namespace, batch: int) -> dict[str, float]:
    """Label the images in batches; return images per second and the peak memory in GiB."""
    predictor = GroundedPredictor(teacher(arguments.height, arguments.width, arguments.sam_side, arguments.boxes))
    rng = np.random.default_rng(0)
    shape = (arguments.height, arguments.width, 3)
    images = [rng.integers(0, 255, shape).astype(np.uint8) for _ in range(arguments.images)]
    predictor.predict(images[:batch])  # the first call warms up
    began = time.monotonic()
    for start in range(0, len(images), batch):
        predictor.predict(images[start : start + batch])
    seconds = time.monotonic() - began
    on_gpu = torch.cuda.is_available()
    peak = torch.cuda.max_memory_allocated() if on_gpu else 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"rate": len(images) / seconds, "memory": peak / 2**30}


def device() -> str:
    """Say what it ran on."""
    if torch.cuda.is_available():
        return f"{torch.cuda.get_device_name()}, bfloat16"
    return f"CPU {platform.machine()}, {torch.get_num_threads()} of {os.cpu_count()} cores, float32"


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--height", type=int, default=REAL["height"])
    parser.add_argument("--width", type=int, default=REAL["width"])
    parser.add_argument("--sam-side", type=int, default=REAL["sam_side"], help="a multiple of 32")
    parser.add_argument("--boxes", type=int, default=20, help="an image")
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--row", type=int, help="measure this batch alone and print JSON")
    arguments = parser.parse_args()
    if arguments.row:
        print(json.dumps(measure(arguments, arguments.row)))
        return
    lines = ["| images a pass | images/s | peak memory, GiB |", "|---|---|---|"]
    for batch in arguments.batches:
        command = [sys.executable, *sys.argv, "--row", str(batch)]
        answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        row = json.loads(answer.splitlines()[-1])
        lines.append(f"| {batch} | {row['rate']:.3g} | {row['memory']:.1f} |")
    print("\n".join(lines))
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers"))
    size = f"detector input {arguments.height} x {arguments.width}, SAM input {arguments.sam_side}"
    reduced = {name: getattr(arguments, name) for name in REAL} != REAL
    print(
        f"\n{device()}; {versions}; {size}{' (reduced)' if reduced else ''}; {arguments.boxes} boxes an image, ", end=""
    )
    print(f"{len(CLASSES)} classes, {arguments.images} images, one run")


if __name__ == "__main__":
    main()
