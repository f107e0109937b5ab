"""What a step of teacher and student costs, part by part, and how the set loss compares with that of `transformers`.

    python benchmarks/train_step.py                                   # the demo's Mask2Former, on what there is
    python benchmarks/train_step.py --backbone r50 --size 512 1024 --batch 4
    python benchmarks/train_step.py --criterion       # the loss alone: 100 queries, 20 targets, 10 depths

The parts are measured inside of the engine's own step; on a GPU each of them waits for the device, so their sum is an
upper bound. Figures go to `benchmarks/results/train_step.json`, by device and setting.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from transformers import Mask2FormerConfig
from transformers.models.mask2former.modeling_mask2former import Mask2FormerLoss

from sskd_core.config.loading import load_preset_values
from sskd_core.config.model import InputConfig, ModelConfig
from sskd_core.config.teaching import TeachingConfig
from sskd_core.config.train import SetCriterionConfig, TrainConfig
from sskd_core.data.loader import BatchLoader, Example
from sskd_core.data.scenes import CLASSES
from sskd_core.labels.online import OnlineFilter
from sskd_core.losses.set_criterion import SetCriterion, Target
from sskd_core.models.build import build_model
from sskd_core.models.protocol import QueryOutput
from sskd_core.models.trained import default_device
from sskd_core.progress import Progress
from sskd_core.strategies.teacher import OnlineTeacher
from sskd_core.strategies.teacher_student import TeachersLabels, TeacherStudent
from sskd_core.tracking.run import NullRun
from sskd_core.training.loop import Trainer
from sskd_core.training.pretrain import SceneExamples

RESULTS = Path(__file__).parent / "results" / "train_step.json"
PARTS = ("data", "teacher", "student forward", "matching", "loss", "backward", "optimiser", "EMA", "rest")
QUERIES, TARGETS, DEPTHS, IMAGES, LOGITS, INPUT = 100, 20, 10, 2, (128, 256), (512, 1024)


class Clock:
    """Seconds by part; what runs inside of another part counts for the inner one alone."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._inside: list[list[float]] = []
        self.seconds: dict[str, float] = defaultdict(float)

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Measure a part."""
        inner = [0.0]
        self._inside.append(inner)
        began = self.now()
        yield
        spent = self.now() - began
        self._inside.pop()
        self.seconds[name] += spent - inner[0]
        if self._inside:
            self._inside[-1][0] += spent

    def wrapped(self, owner: Any, method: str, name: str) -> Any:
        """Return a patch that measures every call of a method."""
        original = getattr(owner, method)

        def call(*arguments: Any, **options: Any) -> Any:
            with self.part(name):
                return original(*arguments, **options)

        return mock.patch.object(owner, method, call)

    def now(self) -> float:
        """Return the time when the device has done all that it was told."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter()


class Unlabelled(SceneExamples):
    """Scenes without their annotations."""

    def __getitem__(self, index: int) -> Example:
        example = super().__getitem__(index)
        return Example(example.image, [], example.masks[:0])


def make_trainer(model: ModelConfig, criterion: SetCriterionConfig, batch: int, folder: Path) -> Trainer:
    """Return the engine with a teacher and a student of a model, past the burn-in."""
    device = default_device()
    student = build_model(model, list(CLASSES), None, seed=0).to(device)
    teaching = TeachingConfig(recipe="no_burn_in_keep", filter={"class_threshold": 0.3, "soft_area": 2})
    train = TrainConfig(
        strategy="teacher_student",
        iterations=10_000,
        labeled_batch=batch,
        unlabeled_batch=batch,
        teaching=teaching,
        criterion=criterion,
    )
    labeled, unlabeled = (
        BatchLoader(kind(0, "target", "benchmark", 16), batch, model.input, train.augment, 0, kind.__name__)
        for kind in (SceneExamples, Unlabelled)
    )
    teacher = OnlineTeacher(deepcopy(student), teaching, train.iterations)
    labeller = TeachersLabels(teacher, OnlineFilter(teaching.filter, CLASSES))
    strategy = TeacherStudent(labeled, unlabeled, SetCriterion(train.criterion), teaching, labeller, teacher, 0)
    nowhere: Any = None  # no step reads or writes a checkpoint
    return Trainer(student, strategy, train, 0, lambda _: 0.0, nowhere, Progress("step", folder), NullRun())


def measure_step(model: ModelConfig, criterion: SetCriterionConfig, batch: int, steps: int) -> dict[str, Any]:
    """Return seconds and shares of each part of a step, images a second and peak memory."""
    device = default_device()
    clock = Clock(device)
    with tempfile.TemporaryDirectory() as folder:
        trainer = make_trainer(model, criterion, batch, Path(folder))
        trainer._step()  # the first one renders, allocates and compiles
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        patches = [
            clock.wrapped(BatchLoader, "batch", "data"),
            clock.wrapped(TeachersLabels, "label", "teacher"),
            clock.wrapped(trainer._model, "forward", "student forward"),
            clock.wrapped(SetCriterion, "_match", "matching"),
            clock.wrapped(SetCriterion, "__call__", "loss"),
            clock.wrapped(Tensor, "backward", "backward"),
            clock.wrapped(torch.nn.utils, "clip_grad_norm_", "optimiser"),
            clock.wrapped(trainer._optimizer, "step", "optimiser"),
            clock.wrapped(OnlineTeacher, "write", "EMA"),
        ]
        for patch in patches:
            patch.start()
        for _ in range(steps):
            with clock.part("rest"):
                trainer._step()
        mock.patch.stopall()
    total = sum(clock.seconds.values())
    return {
        "parameters": sum(item.numel() for item in trainer._model.parameters()),
        "milliseconds": {name: round(1e3 * clock.seconds[name] / steps, 2) for name in PARTS},
        "shares": {name: round(clock.seconds[name] / total, 4) for name in PARTS},
        "images_per_second": round(2 * batch * steps / total, 2),
        "peak_memory_mb": round(_peak_memory(device) / 2**20),
    }


def _peak_memory(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return 1024.0 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def measure_criterion(repeats: int) -> dict[str, float]:
    """Return the milliseconds, forward and backward, of our loss and the reference's, and how far they are apart."""
    device, config = default_device(), SetCriterionConfig()
    output, targets = _random_case(device)
    ours = SetCriterion(config)
    scores: dict[str, Callable[[], Tensor]] = {
        "ours": lambda: torch.stack(list(ours(output, targets).values())).sum(),
        "transformers": lambda: _reference(config, output, targets),
    }
    with _shared_points(config):
        values = {name: float(score().detach()) for name, score in scores.items()}
    times: dict[str, list[float]] = {name: [] for name in scores}
    clock = Clock(device)
    for _ in range(repeats + 1):
        for name, score in scores.items():
            began = clock.now()
            score().backward()
            times[name].append(clock.now() - began)
    found = {f"{name}_ms": round(1e3 * statistics.median(taken[1:]), 1) for name, taken in times.items()}
    found["speedup"] = round(found["transformers_ms"] / found["ours_ms"], 2)
    found["relative_difference"] = abs(values["ours"] / values["transformers"] - 1)
    return found


def _random_case(device: torch.device) -> tuple[QueryOutput, list[Target]]:
    source = torch.Generator().manual_seed(0)

    def leaf(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=source).to(device).requires_grad_()

    classes = [leaf(IMAGES, QUERIES, len(CLASSES) + 1) for _ in range(DEPTHS)]
    masks = [leaf(IMAGES, QUERIES, *LOGITS) for _ in range(DEPTHS)]
    targets = [
        Target(
            torch.randint(len(CLASSES), (TARGETS,), generator=source).to(device),
            (torch.rand(TARGETS, *INPUT, generator=source) > 0.5).float().to(device),
        )
        for _ in range(IMAGES)
    ]
    return QueryOutput(classes, masks, []), targets


def _reference(config: SetCriterionConfig, output: QueryOutput, targets: list[Target]) -> Tensor:
    settings = Mask2FormerConfig(id2label=dict(enumerate(CLASSES)))
    auxiliary = [
        {"masks_queries_logits": masks, "class_queries_logits": classes}
        for masks, classes in zip(output.mask_logits[:-1], output.class_logits[:-1], strict=True)
    ]
    weights = {
        "loss_cross_entropy": config.class_weight,
        "loss_mask": config.mask_weight,
        "loss_dice": config.dice_weight,
    }
    losses = Mask2FormerLoss(settings, weights).to(targets[0].masks.device)(
        output.mask_logits[-1],
        output.class_logits[-1],
        [item.masks for item in targets],
        [item.labels for item in targets],
        auxiliary,
    )
    weighted = [
        value * next(weight for term, weight in weights.items() if name.startswith(term))
        for name, value in losses.items()
    ]
    return torch.stack(weighted).sum()


@contextmanager
def _shared_points(config: SetCriterionConfig) -> Iterator[None]:
    """Let both losses look at the same points, however many masks they draw for at once."""
    points = torch.rand(int(config.oversample_ratio * config.num_points), 2, generator=torch.Generator().manual_seed(1))

    def rand(*shape: int, device: Any = None) -> Tensor:
        return points[: shape[1]].expand(shape).contiguous().to(device)

    with mock.patch.object(torch, "rand", rand):
        yield


def _setting(arguments: argparse.Namespace) -> tuple[ModelConfig, SetCriterionConfig]:
    """Return the model and its loss: of the papers, or of the demo, whose masks are compared at fewer points."""
    if arguments.backbone:
        height, width = arguments.size
        size = InputConfig(height=height, width=width)
        model = ModelConfig(family="mask2former", arch={"backbone": arguments.backbone}, input=size)
        return model, SetCriterionConfig()
    values = load_preset_values("demo_guided")
    criterion = SetCriterionConfig.model_validate(values["stages"]["distill"]["criterion"])
    return ModelConfig.model_validate(values["teacher"]), criterion


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--backbone", help="of a Mask2Former with random values, such as r50; default: the demo's model"
    )
    parser.add_argument("--size", type=int, nargs=2, default=(512, 1024), help="of its input, height and width")
    parser.add_argument("--batch", type=int, default=4, help="labelled images a step, and as many unlabelled ones")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--criterion", action="store_true", help="measure the loss alone")
    arguments = parser.parse_args()
    device = default_device()
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    if arguments.criterion:
        setting, found = "criterion", measure_criterion(arguments.steps)
    else:
        model, criterion = _setting(arguments)
        setting = f"{arguments.backbone or 'demo'} {model.input.height}x{model.input.width} batch {arguments.batch}"
        found = measure_step(model, criterion, arguments.batch, arguments.steps)
    kept = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    versions = {"python": platform.python_version(), "torch": torch.__version__}
    kept.setdefault(name, {})[setting] = {**found, "steps": arguments.steps, "versions": versions}
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    print(json.dumps({"device": name, "setting": setting, **found}, indent=1))


if __name__ == "__main__":
    main()
