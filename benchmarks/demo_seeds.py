"""Run the demo for several seeds and print the table with mean and spread.

    python benchmarks/demo_seeds.py --seeds 0 1 2

Seeds that were run before are found done. Writes `benchmarks/results/demo_seeds.json`.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

MODELS = ("zero_shot_teacher", "adapted_teacher", "supervised_student", "distilled_student", "refined_student")
RESULTS = Path(__file__).parent / "results" / "demo_seeds.json"


def run_seed(seed: int, state_dir: Path) -> dict[str, Any]:
    """Run the demo and return its `results.json`."""
    sskd = Path(sys.executable).parent / "sskd"
    command = [str(sskd), "demo", "--seed", str(seed), "--state-dir", str(state_dir)]
    subprocess.run(command, check=True)
    text = (state_dir / "reports" / f"demo-seed{seed}" / "results.json").read_text(encoding="utf-8")
    document: dict[str, Any] = json.loads(text)
    return document


def table(runs: dict[int, dict[str, Any]]) -> str:
    """Return a Markdown table: a row a model, a column a seed, mean and standard deviation."""
    heads = ["model", *(f"seed {seed}" for seed in runs), "mean", "sd", "parameters"]
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for model in MODELS:
        values = [run["models"][model]["mask_ap"] for run in runs.values()]
        spread = statistics.stdev(values) if len(values) > 1 else 0.0
        cells = [f"{value:.1f}" for value in [*values, statistics.mean(values), spread]]
        size = next(iter(runs.values()))["models"][model]["parameters"]
        lines.append("| " + " | ".join([model.replace("_", " "), *cells, f"{size:,}"]) + " |")
    return "\n".join(lines)


def main() -> None:
    """Run and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--state-dir", type=Path, default=Path(".sskd"))
    arguments = parser.parse_args()
    runs = {seed: run_seed(seed, arguments.state_dir) for seed in arguments.seeds}
    first = next(iter(runs.values()))
    RESULTS.parent.mkdir(exist_ok=True)
    kept = ("models", "split", "images", "evaluator", "device", "versions", "stages")
    document = {
        "machine": f"{platform.machine()}, {platform.python_version()}",
        "runs": {str(seed): {key: run[key] for key in kept} for seed, run in runs.items()},
    }
    RESULTS.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    print(table(runs))
    print(f"\nmask AP, {first['images']} {first['split']} images a seed, {first['evaluator']}, {first['device']}")


if __name__ == "__main__":
    main()
