"""What the pixel contrastive term costs: its share of a training step, and its memory on a fine grid.

    python benchmarks/contrastive_loss.py

First the shapes of the paper: batch 4, a 19 x 37 grid, 100 queries, 200 negatives, 128 dimensions, beside a step of the
student on the same 512 x 1024 crops. The term is timed as the loss alone, as its own code runs in a step, and with the
strong view and the encoder pass that it needs. Then stride 8 of a 512 x 1024 crop, in chunks within a memory bound.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import torch
from torch.nn import functional

from sskd_core.config.contrast import PixelContrastConfig
from sskd_core.config.model import InputConfig, ModelConfig
from sskd_core.config.train import SetCriterionConfig
from sskd_core.data.loader import Batch
from sskd_core.losses.pixel_contrast import PixelContrast, fused_map
from sskd_core.losses.set_criterion import SetCriterion
from sskd_core.models.build import construct
from sskd_core.strategies.base import StepTerms, targets_of
from sskd_core.strategies.contrast import ContrastTerm

QUERIES, CLASSES, DIMENSIONS = 100, 8, 128


def device() -> torch.device:
    """Return the GPU if there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def seconds(work: Callable[[], object], repeats: int) -> float:
    """Return the median time of a call."""
    taken = []
    for _ in range(repeats + 1):
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        began = time.perf_counter()
        work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken[1:])


def loss_alone(images: int, grid: tuple[int, int], memory_mb: int) -> Callable[[], float]:
    """Return a function that computes the loss and its gradient on random predictions."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator).to(device())

    cells = grid[0] * grid[1]
    class_logits = normal(images, QUERIES, CLASSES + 1)
    mask_logits = 5.0 * normal(images, QUERIES, *grid)
    embedded = normal(images * cells, DIMENSIONS)
    strong = functional.normalize(embedded + 0.3 * normal(images * cells, DIMENSIONS), dim=-1)
    image = torch.arange(images, device=device()).repeat_interleave(cells)
    loss = PixelContrast(PixelContrastConfig(memory_mb=memory_mb))

    def work() -> float:
        torch.manual_seed(0)
        free = embedded.clone().requires_grad_()
        y, _ = fused_map(class_logits, mask_logits, grid)
        value = loss(functional.normalize(free, dim=-1), strong, y.flatten(0, 1), image, 0.1).loss
        value.backward()
        return float(value.detach())

    return work


def step_share(repeats: int) -> list[str]:
    """Time a step of the real-size student and the term beside it."""
    size = InputConfig()
    config = ModelConfig(family="dinov2_dpt", input=size)
    model = construct(config, [f"class {number}" for number in range(CLASSES)], seed=0).to(device()).train()
    pixels = torch.randn(4, 3, size.height, size.width, generator=torch.Generator().manual_seed(0)).to(device())
    masks = torch.zeros(6, size.height, size.width)
    for number in range(6):
        masks[number, 60 * number : 60 * number + 50, 100 * number : 100 * number + 200] = 1.0
    batch = Batch(pixels, [torch.arange(6)] * 4, [masks] * 4, [(size.height, size.width)] * 4)
    criterion = SetCriterion(SetCriterionConfig())
    term = ContrastTerm(model, PixelContrastConfig(), 0.1, 1, seed=0)

    def step(with_term: bool) -> None:
        output = model(pixels)
        terms = StepTerms(criterion(output, targets_of(batch, device())))
        if with_term:
            term.add_to(terms, model, output, pixels, batch, None, 0)
        torch.stack(list(terms.losses.values())).sum().backward()
        model.zero_grad(set_to_none=True)

    plain, whole = seconds(lambda: step(False), repeats), seconds(lambda: step(True), repeats)
    run = loss_alone(4, (19, 37), 1024)
    alone = seconds(run, repeats)
    return [
        "| what | seconds | share of the step |",
        "|---|---|---|",
        f"| step without the term | {plain:.3f} | |",
        f"| loss alone, forward and backward | {alone:.3f} | {100 * alone / plain:.1f} % |",
        f"| term with strong view and encoder pass | {whole - plain:.3f} | {100 * (whole - plain) / plain:.1f} % |",
    ]


def fine_grid(bounds: list[int]) -> list[str]:
    """Measure stride 8 of a 512 x 1024 crop, each bound in a fresh process, whose peak memory is its own."""
    lines = ["", "| memory bound, MiB | peak beyond the start, MiB | seconds | loss |", "|---|---|---|---|"]
    for bound in bounds:
        command = [sys.executable, __file__, "--fine", str(bound)]
        lines.append(subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip())
    return lines


def fine(bound: int) -> str:
    """Return the row of one bound: two images, 64 x 128 cells each."""
    run = loss_alone(2, (64, 128), bound)
    before = _peak()
    began = time.perf_counter()
    value = run()
    return f"| {bound} | {_peak() - before:.0f} | {time.perf_counter() - began:.1f} | {value:.6f} |"


def _peak() -> float:
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def main() -> None:
    """Run and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--bounds", type=int, nargs="+", default=[256, 1024, 16_384])
    parser.add_argument("--fine", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.fine is not None:
        print(fine(arguments.fine))
        return
    print("\n".join(step_share(arguments.repeats) + fine_grid(arguments.bounds)))
    name = torch.cuda.get_device_name() if torch.cuda.is_available() else f"cpu, {torch.get_num_threads()} threads"
    print(f"\n{name}, torch {torch.__version__}, float32, batch 4 of 512 x 1024 above, 2 of the same below")


if __name__ == "__main__":
    main()
