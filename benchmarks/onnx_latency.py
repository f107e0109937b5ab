"""How fast the exported student is, and what each cheaper arithmetic costs in AP: eager PyTorch, compiled PyTorch and
onnxruntime in 32-bit floats, 16-bit floats and 8-bit integers.

    sskd demo                             # makes the student, once
    python benchmarks/onnx_latency.py     # the newest export in the embedded store of .sskd

Prints a Markdown table: AP on the test split, size, and time of the network alone (no decoding, no masks) by batch.
Set the number of threads with --threads; nothing else should run.
"""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import get_args

import numpy as np
import torch
from numpy.typing import NDArray

from sskd_core.config.finish import CheapPrecision
from sskd_core.data.dataset import Dataset
from sskd_core.data.preprocess import letterbox, to_pixels
from sskd_core.evaluation.instance_ap import evaluator_name
from sskd_core.export.latency import Latency, measure_latency
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
Run = Callable[[NDArray[np.float32]], object]


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        name: of the arithmetic and what runs it.
        mask_ap: points on the test split.
        megabytes: of the file or of the weights, 10^6 bytes.
        latency: by batch.
    """

    name: str
    mask_ap: float
    megabytes: float
    latency: dict[int, Latency]


@dataclass(frozen=True)
class Subject:
    """What is measured.

    Attributes:
        model: the student, in eval mode, on the CPU.
        onnx: its 32-bit file.
        dataset: the data of its run.
        size: (height, width) of its input.
    """

    model: SegmentationModel
    onnx: Path
    dataset: Dataset
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
    return Subject(model, path, Dataset.load(data, store), (model.input.height, model.input.width))


def calibration(subject: Subject, images: int) -> Iterator[NDArray[np.float32]]:
    """Yield unlabelled images as network inputs."""
    records, size = subject.dataset.images("unlabeled"), subject.model.input
    for index in spread_indices(len(records), images):
        image, _ = letterbox(subject.dataset.read_image(records[index]), size.height, size.width)
        yield to_pixels(image, size.mean, size.std)[None]


def timed(call: Run, subject: Subject, runs: int) -> dict[int, Latency]:
    """Time a network at each batch on random pixels."""
    found = {}
    for batch in BATCHES:
        pixels = np.random.default_rng(0).standard_normal((batch, 3, *subject.size), dtype=np.float32)
        found[batch] = measure_latency(lambda pixels=pixels: call(pixels), runs)  # type: ignore[misc]
    return found


def rows(subject: Subject, threads: int, runs: int, folder: Path) -> Iterator[Row]:
    """Measure every way to run the network."""
    dataset = subject.dataset
    split = Split(dataset.images("test"), dataset.ground_truth("test"), dataset.read_image)
    mask_ap = network_ap(subject.model, split, lambda done: None)
    weights = sum(value.numel() * value.element_size() for value in subject.model.state_dict().values()) / 1e6
    for name, network in (
        ("PyTorch eager fp32", subject.model),
        ("PyTorch compiled fp32", torch.compile(subject.model)),
    ):

        @torch.inference_mode()
        def forward(pixels: NDArray[np.float32], network: torch.nn.Module = network) -> object:
            return network(torch.from_numpy(pixels))

        # Compiled, the same network in the same arithmetic: its AP is that of eager.
        yield Row(name, mask_ap, weights, timed(forward, subject, runs))
    for precision in ("fp32", *get_args(CheapPrecision)):
        path = folder / f"{precision}.onnx"
        if precision != "fp32":
            contract = OnnxPredictor(subject.onnx).contract
            write_variant(subject.onnx, path, precision, contract, calibration(subject, 64))
        exported = OnnxPredictor(path, threads=threads)
        found = compare(subject.model, mask_ap, exported, split, 1, lambda done: None).parity.mask_ap_onnx
        yield Row(f"onnxruntime {precision}", found, path.stat().st_size / 1e6, timed(exported.logits, subject, runs))


def table(measured: list[Row]) -> str:
    """Return the Markdown table; the speed-up is over eager at the same batch, by median."""
    eager = measured[0]
    heads = ["", "mask AP", "MB", *(f"batch {batch}: p50 / p95 ms (speed-up)" for batch in BATCHES)]
    lines = ["| " + " | ".join(heads) + " |", "|---" + "|---:" * (len(heads) - 1) + "|"]
    for row in measured:
        cells = [
            f"{item.p50:.1f} / {item.p95:.1f} ({eager.latency[batch].p50 / item.p50:.2f}x)"
            for batch, item in row.latency.items()
        ]
        lines.append("| " + " | ".join([row.name, f"{row.mask_ap:.2f}", f"{row.megabytes:.2f}", *cells]) + " |")
    return "\n".join(lines)


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--state-dir", type=Path, default=Path(".sskd"))
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--runs", type=int, default=100)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    with embedded(arguments.state_dir) as config, tempfile.TemporaryDirectory() as folder:
        subject = open_subject(ObjectStore(config), Path(folder))
        measured = list(rows(subject, arguments.threads, arguments.runs, Path(folder)))
    print(table(measured))
    print(
        f"\n{arguments.threads} threads, {platform.processor() or platform.machine()}, input {subject.size[0]} x "
        f"{subject.size[1]}, {arguments.runs} runs, {evaluator_name()}, "
        + ", ".join(f"{name} {version(name)}" for name in ("torch", "onnxruntime"))
    )


if __name__ == "__main__":
    main()
