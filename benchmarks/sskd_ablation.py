"""The structure of the SSKD paper's tables on the demo data: mask AP on test of every row, several seeds.

    python benchmarks/sskd_ablation.py --seeds 0 1 2 --jobs 2      # hours on two cores; stops and goes on at will
    python benchmarks/sskd_ablation.py --table                     # only the tables of what is there

A row is the demo's experiment with a few settings changed and one node whose model is scored. Its stages run through
the same entry as a pipeline's, so rows share what they have in common, and a row that was cut off goes on. Figures are
kept in `benchmarks/results/sskd_ablation.json`; a row that is there is not run again.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sskd_core.cli.session import open_session
from sskd_core.config.experiment import ExperimentConfig, node
from sskd_core.config.loading import load_experiment
from sskd_core.data.dataset import Dataset
from sskd_core.data.demo import DemoSizes, write_demo_dataset
from sskd_core.evaluation.instance_ap import evaluator_name
from sskd_core.models.trained import load_trained
from sskd_core.stages.entry import run_node
from sskd_core.storage.digest import code_digest
from sskd_core.storage.manifest import Manifest
from sskd_core.storage.store import ObjectStore
from sskd_core.training.validate import Validator

RESULTS = Path(__file__).parent / "results" / "sskd_ablation.json"
SEEDS = (0, 1, 2)
LABELS = DemoSizes().labeled
BUDGET = (
    "tracking.mode='off'",
    "threads=1",
    "label_workers=1",
    "stages.train_supervised.iterations=450",
    "stages.distill.iterations=400",
    "stages.refine.iterations=50",
    *(
        f"stages.{name}.{setting}"
        for name in ("adapt_teacher", "self_train_teacher", "distill")
        # Maps of 6 x 8 cells: of the coarsest ones a cell is as large as an object.
        for setting in ("lambda_pxl=0.1", "contrast.feature_level=2")
    ),
)
"""The same for every row: half of the demo's student, so that a row takes minutes, and the whole objective."""
_NO_PXL = "stages.{}.lambda_pxl=0"
_PLAIN_ADAPT, _PLAIN_SELF, _PLAIN_DISTILL = (
    _NO_PXL.format(name) for name in ("adapt_teacher", "self_train_teacher", "distill")
)
_UNADAPTED = ("stages.adapt_teacher.iterations=0", "stages.self_train_teacher.iterations=0")
_SAMPLER = "stages.distill.contrast.negatives={}"


@dataclass(frozen=True)
class Row:
    """One row of one table.

    Attributes:
        table: which.
        name: of the row, unique in its table.
        scored: node whose model is scored.
        paper: mask AP on Cityscapes with 10 % of the labels, where the paper gives one.
        settings: changes to the demo's experiment.
        labels: labelled images.
    """

    table: str
    name: str
    scored: str
    paper: float | None
    settings: tuple[str, ...] = ()
    labels: int = LABELS

    @property
    def key(self) -> str:
        """What the figures are kept under: rows of two tables that are the same run have the same key."""
        return " ".join([self.scored, *self.settings, *([] if self.labels == LABELS else [f"labels={self.labels}"])])


ROWS = (
    Row("main", "zero-shot teacher", "adapt_teacher", 22.0, (_UNADAPTED[0],)),
    Row("main", "teacher, labels only", "adapt_teacher", 28.7, (_PLAIN_ADAPT,)),
    Row("main", "teacher, self-training", "self_train_teacher", 29.7, (_PLAIN_ADAPT, _PLAIN_SELF)),
    Row("main", "adapted teacher", "self_train_teacher", 30.5),
    Row("main", "student, supervised", "train_supervised", 21.1),
    Row("main", "student, after transfer", "distill", 32.2),
    Row("main", "student, refined", "refine", 33.9),
    Row("teacher's terms", "L_sup", "adapt_teacher", 28.7, (_PLAIN_ADAPT,)),
    Row("teacher's terms", "+ L_pxl", "adapt_teacher", 29.6),
    Row("teacher's terms", "+ L_semi", "self_train_teacher", 29.7, (_PLAIN_ADAPT, _PLAIN_SELF)),
    Row("teacher's terms", "+ both", "self_train_teacher", 30.5),
    Row("student's terms", "L_sup", "train_supervised", 21.1),
    Row(
        "student's terms",
        "+ L_pxl",
        "train_supervised",
        27.5,
        ("stages.train_supervised.lambda_pxl=0.1", "stages.train_supervised.contrast.feature_level=2"),
    ),
    Row("student's terms", "+ L_semi", "distill", 30.7, (_PLAIN_DISTILL,)),
    Row("student's terms", "+ both", "distill", 32.2),
    Row("stages", "all", "refine", 33.9),
    Row("stages", "no refinement", "distill", 32.2),
    Row("stages", "no teacher adaptation", "refine", 25.7, _UNADAPTED),
    Row("stages", "distillation alone", "distill", 23.8, _UNADAPTED),
    Row("stages", "supervised alone", "train_supervised", 21.1),
    Row("negatives", "none (no L_pxl)", "distill", 30.7, (_PLAIN_DISTILL,)),
    Row("negatives", "uniform", "distill", 29.4, (_SAMPLER.format("uniform"),)),
    Row("negatives", "mask", "distill", 30.6, (_SAMPLER.format("mask"),)),
    Row("negatives", "class", "distill", 31.1, (_SAMPLER.format("class"),)),
    Row("negatives", "fusion", "distill", 32.2),
    *(Row("lambda_pxl", str(value), "distill", None, (f"stages.distill.lambda_pxl={value}",)) for value in (0.01,)),
    Row("lambda_pxl", "0.1", "distill", 32.2),
    *(Row("lambda_pxl", str(value), "distill", None, (f"stages.distill.lambda_pxl={value}",)) for value in (0.2, 0.5)),
    *(
        Row("labels", f"{count}, {name}", scored, None, labels=count)
        for count in (LABELS // 2, LABELS, 2 * LABELS)
        for name, scored in (("teacher", "self_train_teacher"), ("after transfer", "distill"), ("refined", "refine"))
    ),
)


def chain(scored: str) -> list[str]:
    """Return the nodes that must run for a node, itself last."""
    names: list[str] = []
    for source in node(scored).inputs.values():
        names += [name for name in chain(source) if name not in names]
    return [*names, scored]


def run_row(row: Row, seed: int, state_dir: Path) -> dict[str, Any]:
    """Run the stages of a row and score its model on test."""
    with open_session(load_experiment("demo", [*BUDGET, *row.settings, f"seed={seed}"]), state_dir) as session:
        store = ObjectStore(session.storage)
        data = write_demo_dataset(store, seed, DemoSizes(labeled=row.labels))
        experiment = session.model_copy(update={"data": data})
        manifests: dict[str, Manifest] = {}
        for name in chain(row.scored):
            inputs = {key: manifests[source] for key, source in node(name).inputs.items()}
            manifests[name] = _run(experiment, name, inputs)
        return {"mask_ap": _score(manifests, row.scored, store), **_diagnostics(manifests[row.scored], store)}


def _run(experiment: ExperimentConfig, name: str, inputs: dict[str, Manifest]) -> Manifest:
    if node(name).fan_out:
        run_node(experiment, name, inputs, worker=0)
    return run_node(experiment, name, inputs)


def _score(manifests: dict[str, Manifest], scored: str, store: ObjectStore) -> float:
    dataset = Dataset.load(manifests["prepare"], store)
    test = Validator(dataset.images("test"), dataset.ground_truth("test"), dataset.read_image)
    return round(test(load_trained(manifests[scored], store)), 3)


def _diagnostics(manifest: Manifest, store: ObjectStore) -> dict[str, float]:
    """Return the last values of the contrastive diagnostics, means of ten logged steps."""
    series = json.loads(store.read(manifest.output("curves")))["series"]
    return {
        name: round(statistics.mean(value for _, value in points[-10:]), 4)
        for name, points in series.items()
        if name.startswith("contrast_") and points
    }


def load_results() -> dict[str, Any]:
    """Return what was measured so far: key of the row -> seed -> figures."""
    found: dict[str, Any] = {"rows": {}}
    if RESULTS.exists():
        found = json.loads(RESULTS.read_text(encoding="utf-8"))
    return found


def run_missing(seeds: list[int], tables: list[str], jobs: int, state_dir: Path) -> None:
    """Run, in processes of their own, the rows that have no figures yet."""
    results = load_results()
    wanted = {row.key: row for row in ROWS if row.table in tables}
    missing = [(key, seed) for seed in seeds for key in wanted if str(seed) not in results["rows"].get(key, {})]

    def work(item: tuple[str, int]) -> tuple[str, int, str]:
        key, seed = item
        command = [sys.executable, __file__, "--row", key, "--seeds", str(seed), "--state-dir", str(state_dir)]
        return key, seed, subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout

    # The session stays open between rows, so that the embedded store is not started for each.
    with open_session(load_experiment("demo", list(BUDGET)), state_dir), ThreadPoolExecutor(jobs) as pool:
        for number, (key, seed, output) in enumerate(pool.map(work, missing), start=1):
            figures = json.loads(output.splitlines()[-1]) | {"code": code_digest()}
            results["rows"].setdefault(key, {})[str(seed)] = figures
            results |= {"evaluator": evaluator_name(), "budget": list(BUDGET), "split": "test"}
            RESULTS.parent.mkdir(exist_ok=True)
            RESULTS.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n", encoding="utf-8")
            print(f"{number}/{len(missing)} seed {seed} {key}: {figures['mask_ap']:.1f}", flush=True)


def tables(results: dict[str, Any]) -> str:
    """Return the tables in Markdown; a row without any figure is left out."""
    lines: list[str] = []
    for name in dict.fromkeys(row.table for row in ROWS):
        rows = [row for row in ROWS if row.table == name and row.key in results["rows"]]
        if not rows:
            continue
        lines += ["", f"| {name} | paper | ours, mean | sd | seeds | margin | FNR, truth |", "|" + "---|" * 7]
        for row in rows:
            found = results["rows"][row.key].values()
            values = [item["mask_ap"] for item in found]
            spread = f"{statistics.stdev(values):.1f}" if len(values) > 1 else ""
            paper = "" if row.paper is None else f"{row.paper:.1f}"
            more = [_mean(found, name) for name in ("contrast_margin", "contrast_fnr_truth")]
            cells = [row.name, paper, f"{statistics.mean(values):.1f}", spread, str(len(values)), *more]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _mean(found: Any, name: str) -> str:
    values = [item[name] for item in found if name in item]
    return f"{statistics.mean(values):.2f}" if values else ""


def main() -> None:
    """Run and report."""
    names = list(dict.fromkeys(row.table for row in ROWS))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--tables", nargs="+", choices=names, default=names)
    parser.add_argument("--jobs", type=int, default=max(1, (os.cpu_count() or 1)), help="rows at a time")
    parser.add_argument("--state-dir", type=Path, default=Path(".sskd"))
    parser.add_argument("--table", action="store_true", help="print what there is and run nothing")
    parser.add_argument("--row", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    state_dir = arguments.state_dir.absolute()
    if arguments.row is not None:
        row = next(row for row in ROWS if row.key == arguments.row)
        print(json.dumps(run_row(row, arguments.seeds[0], state_dir)))
        return
    if not arguments.table:
        run_missing(arguments.seeds, arguments.tables, arguments.jobs, state_dir)
    print(tables(load_results()))


if __name__ == "__main__":
    main()
