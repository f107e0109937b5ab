"""How fast the exported student is, and what each cheaper arithmetic costs in AP: eager PyTorch, compiled PyTorch and
onnxruntime in 32-bit floats, 16-bit floats and 8-bit integers.

    sskd demo                             # makes the student, once
    python benchmarks/onnx_latency.py     # the newest export in the embedded store of .sskd

Prints a Markdown table: AP on the test split, size, and time of the network alone (no decoding, no masks) by batch, and
writes it with all that it was measured on to `benchmarks/results/onnx_latency.json`.

`--clock cpu` counts processor time, which on one thread is what a quiet machine's clock on the wall would show: for a
machine that is not quiet.

All ways take turns, a block of runs each, round after round: what else the machine does meets all of them alike. A
speed-up is the median over the rounds of the ratio within a round, beside the lowest and the highest.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from sskd_core.config.finish import CheapPrecision
from sskd_core.data.dataset import Dataset
from sskd_core.data.preprocess import letterbox, to_pixels
from sskd_core.evaluation.instance_ap import evaluator_name
from sskd_core.export.latency import Latency, time_runs
from sskd_core.export.parity import Split, compare, network_ap
from sskd_core.export.predictor import OnnxPredictor
from sskd_core.export.variants import write_variant
from sskd_core.labels.sheet import spread_indices
from sskd_core.models.protocol import SegmentationModel
from sskd_core.models.trained import load_trained
from sskd_core.services.embedded import embedded
from sskd_core.storage.manifest import Manifest
from sskd_core.storage.store import ObjectStore

BATCHES = (1, 4, 8)
CALIBRATION_IMAGES = 64
RESULTS = Path(__file__).parent / "results" / "onnx_latency.json"
GOALS = {"onnxruntime fp32": 1.5, "onnxruntime int8_static": 2.5}
"""Least speed-up over eager PyTorch on one image; the second at no more than this loss of AP:"""
MAX_AP_LOSS = 0.5
CLOCKS: dict[str, Callable[[], float]] = {"wall": time.perf_counter, "cpu": time.process_time}
Run = Callable[[NDArray[np.float32]], object]


@dataclass(frozen=True)
class Way:
    """One way to run the network.

    Attributes:
        name: of the arithmetic and what runs it.
        mask_ap: points on the test split.
        megabytes: of the file or of the weights, 10^6 bytes.
        run: the network on its pixels [B, 3, H, W].
    """

    name: str
    mask_ap: float
    megabytes: float
    run: Run


@dataclass(frozen=True)
class Timing:
    """A way at one batch.

    Attributes:
        latency: over all runs.
        speed_up: over eager, median of the rounds.
        lowest: of a round.
        highest: of a round.
    """

    latency: Latency
    speed_up: float
    lowest: float
    highest: float


@dataclass(frozen=True)
class Subject:
    """What is measured.

    Attributes:
        model: the student, in eval mode, on the CPU.
        onnx: its 32-bit file.
        dataset: the data of its run.
        seed: of its run.
        size: (height, width) of its input.
    """

    model: SegmentationModel
    onnx: Path
    dataset: Dataset
    seed: int
    size: tuple[int, int]


def newest_export(store: ObjectStore) -> Manifest:
    """Return the newest manifest of `export_onnx` in a store."""
    uris = [item.uri for item in store.list(f"{store.root}/stages/export_onnx") if item.uri.endswith("/manifest.json")]
    if not uris:
        raise SystemExit("no exported student in this store; run `sskd demo` first")
    return max((store.manifest(uri) for uri in uris), key=lambda item: item.created)


def open_subject(store: ObjectStore, folder: Path) -> Subject:
    """Load the student of the newest export."""
    export = newest_export(store)
    student, data = (
        store.manifest(export.inputs[name].uri, export.inputs[name].digest) for name in ("student", "data")
    )
    path = folder / "fp32.onnx"
    path.write_bytes(store.read(export.output("onnx")))
    model = load_trained(student, store).cpu()
    size = (model.input.height, model.input.width)
    return Subject(model, path, Dataset.load(data, store), int(student.config["seed"]), size)


def calibration(subject: Subject) -> Iterator[NDArray[np.float32]]:
    """Yield unlabelled images as network inputs."""
    records, size = subject.dataset.images("unlabeled"), subject.model.input
    for index in spread_indices(len(records), CALIBRATION_IMAGES):
        image, _ = letterbox(subject.dataset.read_image(records[index]), size.height, size.width)
        yield to_pixels(image, size.mean, size.std)[None]


def ways(subject: Subject, threads: int, folder: Path) -> Iterator[Way]:
    """Make every way to run the network, and measure its AP."""
    dataset = subject.dataset
    split = Split(dataset.images("test"), dataset.ground_truth("test"), dataset.read_image)
    mask_ap = network_ap(subject.model, split, lambda done: None)
    weights = sum(value.numel() * value.element_size() for value in subject.model.state_dict().values()) / 1e6

    @torch.inference_mode()
    def forward(network: Callable[[torch.Tensor], object], pixels: NDArray[np.float32]) -> object:
        return network(torch.from_numpy(pixels))

    print("making and evaluating every way", file=sys.stderr)
    yield Way("PyTorch eager fp32", mask_ap, weights, partial(forward, subject.model))
    # Compiled for each batch by itself; the same network in the same arithmetic, so its AP is that of eager.
    compiled = torch.compile(subject.model, dynamic=False)
    yield Way("PyTorch compiled fp32", mask_ap, weights, partial(forward, compiled))
    for precision in ("fp32", *get_args(CheapPrecision)):
        path = folder / f"{precision}.onnx"
        if precision != "fp32":
            contract = OnnxPredictor(subject.onnx).contract
            write_variant(subject.onnx, path, precision, contract, calibration(subject))
        exported = OnnxPredictor(path, threads=threads)
        found = compare(subject.model, mask_ap, exported, split, 1, lambda done: None).parity.mask_ap_onnx
        yield Way(f"onnxruntime {precision}", found, path.stat().st_size / 1e6, exported.logits)


def timed(
    every: list[Way], size: tuple[int, int], batch: int, rounds: int, runs: int, clock: Callable[[], float]
) -> dict[str, Timing]:
    """Time all ways at one batch of random pixels, in turns; the first is what the others are compared with."""
    pixels = np.random.default_rng(0).standard_normal((batch, 3, *size), dtype=np.float32)
    calls = {way.name: partial(way.run, pixels) for way in every}
    for name, call in calls.items():
        print(f"batch {batch}: {name}", file=sys.stderr)
        time_runs(call, 3)  # compiles, allocates, fills caches
    taken: dict[str, list[list[float]]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            taken[name].append(time_runs(call, runs, clock))
    medians = {name: [statistics.median(block) for block in blocks] for name, blocks in taken.items()}
    base = medians[every[0].name]
    found = {}
    for name, blocks in taken.items():
        ratios = [before / now for before, now in zip(base, medians[name], strict=True)]
        latency = Latency.of([value for block in blocks for value in block])
        found[name] = Timing(latency, statistics.median(ratios), min(ratios), max(ratios))
    return found


def table(every: list[Way], timings: dict[int, dict[str, Timing]]) -> str:
    """Return the Markdown table; a speed-up is over eager at the same batch."""
    heads = ["", "mask AP", "MB", *(f"batch {batch}: p50 / p95 ms, speed-up" for batch in timings)]
    lines = ["| " + " | ".join(heads) + " |", "|---" + "|---:" * (len(heads) - 1) + "|"]
    for way in every:
        cells = []
        for found in timings.values():
            item = found[way.name]
            spread = f"{item.speed_up:.2f}x ({item.lowest:.2f}..{item.highest:.2f})"
            cells.append(f"{item.latency.p50:.1f} / {item.latency.p95:.1f}, {spread}")
        lines.append("| " + " | ".join([way.name, f"{way.mask_ap:.2f}", f"{way.megabytes:.2f}", *cells]) + " |")
    return "\n".join(lines)


def judged(every: list[Way], timings: dict[str, Timing]) -> list[str]:
    """Say of each goal whether it holds, on one image."""
    lines = []
    for way in every:
        if way.name in GOALS:
            speed_up, loss, goal = timings[way.name].speed_up, every[0].mask_ap - way.mask_ap, GOALS[way.name]
            held = speed_up >= goal and loss <= MAX_AP_LOSS
            figures = f"{speed_up:.2f}x eager (goal {goal}x), {loss:+.2f} AP lost (at most {MAX_AP_LOSS})"
            lines.append(f"{way.name}: {figures}: {'holds' if held else 'does not hold'}")
    return lines


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--state-dir", type=Path, default=Path(".sskd"))
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--runs", type=int, default=20, help="a block")
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    arguments = parser.parse_args()
    if arguments.clock == "cpu" and arguments.threads > 1:
        parser.error("--clock cpu adds up what threads do at once; give --threads 1, too")
    torch.set_num_threads(arguments.threads)
    with embedded(arguments.state_dir) as config, tempfile.TemporaryDirectory() as folder:
        subject = open_subject(ObjectStore(config), Path(folder))
        every = list(ways(subject, arguments.threads, Path(folder)))
        load = [os.getloadavg()[0]]
        timings = {
            batch: timed(every, subject.size, batch, arguments.rounds, arguments.runs, CLOCKS[arguments.clock])
            for batch in BATCHES
        }
        load.append(os.getloadavg()[0])
    conditions = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {arguments.threads} threads used",
        "load_average": [round(value, 1) for value in load],
        "input": list(subject.size),
        "clock": arguments.clock,
        "rounds": arguments.rounds,
        "runs_a_round": arguments.runs,
        "split": "test",
        "seed": subject.seed,
        "evaluator": evaluator_name(),
        "versions": {name: version(name) for name in ("torch", "onnxruntime")},
    }
    verdicts = judged(every, timings[1])
    print(table(every, timings), *verdicts, json.dumps(conditions), sep="\n\n")
    rows: list[dict[str, Any]] = [
        {
            "name": way.name,
            "mask_ap": way.mask_ap,
            "megabytes": way.megabytes,
            "batches": {str(batch): asdict(found[way.name]) for batch, found in timings.items()},
        }
        for way in every
    ]
    RESULTS.write_text(json.dumps({**conditions, "verdicts": verdicts, "rows": rows}, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
