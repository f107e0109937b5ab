"""What the pipeline costs beside its stages: the share of wall time outside the stages' own compute, and peak memory.

    python benchmarks/pipeline_overhead.py            # the demo, from an empty state folder

The stages' own compute is the time in which at least one of them worked, as their manifests record it; the rest of the
wall time is the data that are rendered, interpreters that start, imports, KFP's runner, the object store and MLflow.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any


def run(seed: int, state_dir: Path) -> tuple[float, dict[str, Any]]:
    """Run the demo; return its wall time in seconds and its results."""
    sskd = Path(sys.executable).parent / "sskd"
    began = time.monotonic()
    subprocess.run([str(sskd), "demo", "--seed", str(seed), "--state-dir", str(state_dir)], check=True)
    wall = time.monotonic() - began
    text = (state_dir / "reports" / f"demo-seed{seed}" / "results.json").read_text(encoding="utf-8")
    return wall, json.loads(text)


def table(wall: float, results: dict[str, Any]) -> str:
    """Return a Markdown table of seconds and memory a stage, and the share outside."""
    lines = ["| stage | seconds | peak memory, MiB |", "|---|---|---|"]
    stages = results["stages"]
    lines += [f"| {name} | {item['seconds']:.1f} | {item['peak_memory_mb']:.0f} |" for name, item in stages.items()]
    inside = covered(stages)
    outside = 100 * (wall - inside) / wall
    lines.append(f"| whole run, {outside:.1f} % of it outside the stages | {wall:.1f} | |")
    return "\n".join(lines)


def covered(stages: dict[str, Any]) -> float:
    """Return the seconds in which at least one stage worked; the baseline trains beside others."""
    ends = {name: dt.datetime.fromisoformat(item["finished"]).timestamp() for name, item in stages.items()}
    total, until = 0.0, 0.0
    for name in sorted(stages, key=lambda name: ends[name] - stages[name]["seconds"]):
        began = ends[name] - stages[name]["seconds"]
        total += max(0.0, ends[name] - max(began, until))
        until = max(until, ends[name])
    return total


def main() -> None:
    """Run and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        wall, results = run(arguments.seed, Path(folder))
    print(table(wall, results))
    print(f"\n{os.cpu_count()} cores, {results['device']}, {results['versions']}")


if __name__ == "__main__":
    main()
