"""Images a second of training with 1, 2, … processes, and labels a second with 1, 2, 4 workers.

    python benchmarks/scaling.py                                   # the demo's student and teacher
    python benchmarks/scaling.py --processes 1 2 --workers 1 --iterations 3 --images 24

Training: every process has the same number of images a step (weak scaling), in torchrun's processes with Gloo, or with
NCCL where there is a GPU for each. Labelling: the demo's teacher on rendered scenes in the embedded store, each worker
a process; the union of the labels must be the same whatever the number of workers, and its digest is compared.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from sskd_core.config.experiment import ExperimentConfig
from sskd_core.config.loading import complete, load_preset_values, merged
from sskd_core.config.storage import StorageConfig
from sskd_core.data.demo import DemoSizes, write_demo_dataset
from sskd_core.data.loader import BatchLoader
from sskd_core.data.scenes import CLASSES
from sskd_core.distributed import group
from sskd_core.distributed.launch import started_by_torchrun
from sskd_core.labels.schema import encode_shard
from sskd_core.labels.store import load_labels
from sskd_core.losses.set_criterion import SetCriterion
from sskd_core.models.build import construct
from sskd_core.models.trained import default_device
from sskd_core.services.embedded import embedded
from sskd_core.stages.entry import run_node
from sskd_core.storage.digest import digest_bytes
from sskd_core.storage.manifest import Manifest
from sskd_core.storage.store import ObjectStore
from sskd_core.strategies.supervised import Supervised
from sskd_core.training.optimizer import make_optimizer
from sskd_core.training.pretrain import SceneExamples
from sskd_core.training.processes import computation

_WARM_UP = 2


def experiment_in(storage: StorageConfig, images: int) -> ExperimentConfig:
    """Return the demo with so many unlabelled images and a teacher that is not trained further."""
    data = write_demo_dataset(ObjectStore(storage), 0, DemoSizes(labeled=4, unlabeled=images, val=2, test=2))
    values = merged(load_preset_values("demo"), {"stages": {"adapt_teacher": {"iterations": 0}}})
    limits = {"max_empty_rate": 1.0, "max_class_drift": 1.0, "shard_images": max(1, images // 16)}
    values = merged(values, {"stages": {"pseudo_label": limits}, "tracking": {"mode": "off"}})
    return complete({**values, "storage": storage.model_dump(), "data": data.model_dump(mode="json")}, "scaling.py")


def train_row(batch: int, iterations: int) -> float:
    """Train in this process, alone or as one of several; return the images a second of all together."""
    experiment = complete(load_preset_values("demo"), "scaling.py")
    config, size = experiment.stages.train_supervised, experiment.student.input
    assert config is not None
    student = experiment.student.model_copy(update={"encoder_weights": None})
    model = construct(student, list(CLASSES), seed=0).to(default_device())
    examples = SceneExamples(0, "target", "scaling", 64)
    loader = BatchLoader(examples, batch * group.world(), size, config.augment, 0, "labeled", workers=1)
    strategy = Supervised(loader, SetCriterion(config.criterion))
    optimizer = make_optimizer(model, config.optimizer)
    compute = computation(model, None)
    model.train()
    began = 0.0
    for step in range(_WARM_UP + iterations):
        if step == _WARM_UP:
            _wait_for_device()
            began = time.monotonic()
        optimizer.zero_grad(set_to_none=True)
        compute(partial(strategy.step, model, step))[1].backward()
        optimizer.step()
    _wait_for_device()
    seconds = time.monotonic() - began
    strategy.close()
    return batch * group.world() * iterations / seconds


def _wait_for_device() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def in_processes(count: int, arguments: argparse.Namespace) -> float:
    """Run `train_row` under torchrun and return its figure."""
    threads = max(1, (os.cpu_count() or 1) // count)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--local-addr=127.0.0.1"]
    command += [f"--nproc-per-node={count}", __file__, "--row", "--batch", str(arguments.batch)]
    command += ["--iterations", str(arguments.iterations)]
    environment = {"GLOO_SOCKET_IFNAME": "lo", **os.environ, "OMP_NUM_THREADS": str(threads)}
    answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment).stdout
    return float(json.loads(answer.splitlines()[-1])["rate"])


def label_row(experiment: ExperimentConfig, inputs: dict[str, Manifest], workers: int, threads: int) -> dict[str, Any]:
    """Label everything with so many workers at once; return rates and the digest of all labels."""
    experiment = experiment.model_copy(update={"label_workers": workers})
    uris = {name: item.uri for name, item in inputs.items()}
    task = json.dumps({"experiment": experiment.model_dump(mode="json"), "inputs": uris})
    began = time.monotonic()
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    running = [
        subprocess.Popen(
            [sys.executable, __file__, "--worker", str(worker)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        for worker in range(workers)
    ]
    for process in running:
        assert process.stdin is not None
        process.stdin.write(task)
        process.stdin.close()
    answers = [json.loads(process.stdout.read().splitlines()[-1]) for process in running if process.stdout]
    wall = time.monotonic() - began
    if any(process.wait() for process in running):
        raise SystemExit("a labelling worker failed; its output is above")
    store = ObjectStore(experiment.storage)
    collected = run_node(experiment, "pseudo_label", inputs)
    # Without the labeller, which is another one in each row's own part of the store.
    labels = encode_shard(list(load_labels(collected, store).values()), "scaling.py")
    return {
        "rates": [answer["images"] / answer["seconds"] for answer in answers],
        "labels": collected.metrics["instances"] / wall,
        "images": collected.metrics["images"] / wall,
        "digest": digest_bytes(labels),
    }


def label_part(worker: int) -> dict[str, float]:
    """Do the work of one worker; the task comes on standard input."""
    task = json.loads(sys.stdin.read())
    experiment = complete(task["experiment"], "scaling.py")
    store = ObjectStore(experiment.storage)
    inputs = {name: store.manifest(uri) for name, uri in task["inputs"].items()}
    facts = run_node(experiment, "pseudo_label", inputs, worker).facts
    return {"images": facts["images"], "seconds": facts["seconds"]}


def label_table(arguments: argparse.Namespace) -> str:
    """Return the labelling table."""
    lines = [
        "| workers | images/s of each | images/s, wall | labels/s, wall | digest of all labels |",
        "|---|---|---|---|---|",
    ]
    digests = set()
    prepared = 0.0
    # The same for every row: another number of threads sums in another order.
    threads = max(1, (os.cpu_count() or 1) // max(arguments.workers))
    with tempfile.TemporaryDirectory() as folder, embedded(Path(folder)) as storage:
        for workers in arguments.workers:
            own = storage.model_copy(update={"root": f"{storage.root}/{workers}"})
            experiment = experiment_in(own, arguments.images)
            data = run_node(experiment, "prepare", {})
            prepared = max(prepared, arguments.images / data.facts["seconds"])
            inputs = {"data": data, "teacher": run_node(experiment, "adapt_teacher", {"data": data})}
            row = label_row(experiment, inputs, workers, threads)
            digests.add(row["digest"])
            rates = " + ".join(f"{rate:.3g}" for rate in row["rates"])
            short = row["digest"].removeprefix("sha256:")[:12]
            lines.append(f"| {workers} | {rates} | {row['images']:.3g} | {row['labels']:.3g} | {short} |")
    if len(digests) > 1:
        raise SystemExit("the labels depend on the number of workers:\n" + "\n".join(lines))
    return "\n".join([*lines, "", f"`prepare` read {prepared:.3g} images/s."])


def train_table(arguments: argparse.Namespace) -> str:
    """Return the training table."""
    lines = ["| processes | images/s | of a process | efficiency |", "|---|---|---|---|"]
    rates = {count: in_processes(count, arguments) for count in arguments.processes}
    alone = rates[min(rates)] / min(rates)
    for count, rate in rates.items():
        lines.append(f"| {count} | {rate:.3g} | {rate / count:.3g} | {100 * rate / count / alone:.0f} % |")
    return "\n".join(lines)


def device() -> str:
    """Say what it ran on."""
    if torch.cuda.is_available():
        return f"{torch.cuda.device_count()} x {torch.cuda.get_device_name()}, NCCL"
    return f"CPU {platform.machine()}, {os.cpu_count()} cores, Gloo"


def main() -> None:
    """Measure and report."""
    gpus = torch.cuda.device_count()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, nargs="*", default=list(range(1, gpus + 1)) if gpus else [1, 2])
    parser.add_argument("--workers", type=int, nargs="*", default=[1, 2, 4])
    parser.add_argument("--batch", type=int, default=8, help="images a step of each process")
    parser.add_argument("--iterations", type=int, default=30)
    parser.add_argument("--images", type=int, default=512, help="to label")
    parser.add_argument("--row", action="store_true", help="be one process of a training and print JSON")
    parser.add_argument("--worker", type=int, help="be this labelling worker and print JSON")
    arguments = parser.parse_args()
    if arguments.worker is not None:
        print(json.dumps(label_part(arguments.worker)))
    elif arguments.row and started_by_torchrun():
        with group.joined(600):
            rate = train_row(arguments.batch, arguments.iterations)
            if group.leads():
                print(json.dumps({"rate": rate}))
    elif arguments.row:
        print(json.dumps({"rate": train_row(arguments.batch, arguments.iterations)}))
    else:
        tables = []
        if arguments.processes:
            tables.append(f"Training, {arguments.batch} images a process:\n\n{train_table(arguments)}")
        if arguments.workers:
            tables.append(f"Labelling, {arguments.images} images:\n\n{label_table(arguments)}")
        print("\n\n".join(tables))
        versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers"))
        print(f"\n{device()}; {versions}; the demo's networks at 96 x 128; {arguments.iterations} steps, one run")


if __name__ == "__main__":
    main()
