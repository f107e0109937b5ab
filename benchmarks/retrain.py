"""What a retrain costs beside the run that made its champion: compute of the stages, on the demo.

    sskd demo
    python benchmarks/retrain.py              # 5 % new images of a foggy look

Goes on from the champion in a copy of a state directory (default: .sskd) with unlabelled scenes as a foggy lens shows
them and a test split of the same look. Prints the seconds of each stage and the gate's verdicts, and writes them to
`benchmarks/results/retrain.json`. On a machine that is not quiet, processor time is the fairer measure: give that of
`time sskd demo` as --full-cpu-seconds.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from new_camera import fogged, write_images, write_test_split

SSKD = str(Path(sys.executable).parent / "sskd")
RESULTS = Path(__file__).parent / "results" / "retrain.json"
TEST_IMAGES = 200
GOAL = 0.25
"""Of the full run's compute."""


def sskd(state: Path, *arguments: str) -> dict[str, Any]:
    """Run a command and return its JSON answer."""
    command = [SSKD, *arguments, "--state-dir", str(state), "--json"]
    answer: dict[str, Any] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    return answer


def cpu_seconds() -> float:
    """Return the processor time of all commands that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def seconds(results: dict[str, Any], stands: set[str]) -> dict[str, float]:
    """Return what each stage took in a run; what stands took nothing."""
    return {name: 0.0 if name in stands else item["seconds"] for name, item in results["stages"].items()}


def table(full: dict[str, float], again: dict[str, float], stands: set[str]) -> str:
    """Return a Markdown table of seconds a stage of both runs."""
    lines = ["| stage | full run, s | retrain, s |", "|---|---:|---:|"]
    for name, before in full.items():
        lines.append(f"| `{name}` | {before:.1f} | {'stands' if name in stands else f'{again[name]:.1f}'} |")
    lines.append(f"| all | {sum(full.values()):.1f} | {sum(again.values()):.1f} |")
    return "\n".join(lines)


def rules(results: dict[str, Any]) -> list[str]:
    """Return the gate's verdicts and reasons."""
    return [f"{rule['verdict']}: {rule['name']}: {rule['reason']}" for rule in results["verdict"]["rules"]]


def judged(share: float, cpu_share: float | None) -> str:
    """Say whether the goal holds: by processor time if that of the full run is known, else by the stages' seconds."""
    decisive, measure = (share, "seconds of its stages") if cpu_share is None else (cpu_share, "processor time")
    held = "holds" if decisive < GOAL else "does not hold"
    return f"{100 * decisive:.0f} % of the full run by {measure}, goal below {100 * GOAL:.0f} %: {held}"


def main() -> None:
    """Run and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--state-dir", type=Path, default=Path(".sskd"), help="of a finished demo; it is copied")
    parser.add_argument("--seed", type=int, default=0, help="of the demo whose student is champion")
    parser.add_argument("--new", type=int, default=40, help="new images; the demo has 800 unlabelled ones")
    parser.add_argument("--full-cpu-seconds", type=float, help="user and system time of the run that made the champion")
    parser.add_argument("--set", action="append", default=[], dest="overrides", help="passed to the retrain")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        state, data = Path(folder) / "state", Path(folder) / "data"
        shutil.copytree(arguments.state_dir, state)
        report = state / "reports" / f"demo-seed{arguments.seed}" / "results.json"
        full = json.loads(report.read_text(encoding="utf-8"))
        camera = write_images(data / "camera", arguments.new, fogged, arguments.seed)
        annotations, images = write_test_split(data / "test", TEST_IMAGES, arguments.seed)
        overrides = [word for item in arguments.overrides for word in ("--set", item)]
        options = ["retrain", "--test", f"{annotations}={images}", *overrides]
        plan = sskd(state, *options, "--unlabeled", camera, "--dry-run")
        stands = {step["node"] for step in plan["steps"] if step["state"] == "stands"}
        load, began = [os.getloadavg()[0]], cpu_seconds()
        good = sskd(state, *options, "--unlabeled", camera)
        spent = cpu_seconds() - began
        load.append(os.getloadavg()[0])
    before, after = seconds(full, set()), seconds(good, stands)
    share = sum(after.values()) / sum(before.values())
    cpu_share = None if arguments.full_cpu_seconds is None else spent / arguments.full_cpu_seconds
    verdict = judged(share, cpu_share)
    document = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "device": good["device"],
        "versions": good["versions"],
        "evaluator": good["evaluator"],
        "load_average": [round(value, 1) for value in load],
        "seed": arguments.seed,
        "new_images": arguments.new,
        "overrides": arguments.overrides,
        "split": f"{good['split']}, {good['images']} images of the new look",
        "full_seconds": before,
        "retrain_seconds": after,
        "full_cpu_seconds": arguments.full_cpu_seconds,
        "retrain_cpu_seconds": round(spent, 1),
        "estimated_seconds": plan["seconds"],
        "share": round(share, 3),
        "cpu_share": None if cpu_share is None else round(cpu_share, 3),
        "verdict": verdict,
        "mask_ap": {name: item["mask_ap"] for name, item in good["models"].items()},
        "gate": rules(good),
    }
    RESULTS.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    print(table(before, after, stands), verdict, *rules(good), sep="\n")


if __name__ == "__main__":
    main()
