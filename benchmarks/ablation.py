"""What the ablations share: rows of experiments, run through the pipeline's own entry, and their table.

A row is a preset's experiment with a few settings changed and one node whose model is scored on test. Its stages run
through the same entry as a pipeline's, so rows share what they have in common, and a row that was cut off goes on. The
figures are kept beside this file, in `results/`; a row that is there is not run again.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sskd_core.cli.session import open_session
from sskd_core.config.experiment import ExperimentConfig
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

RESULTS = Path(__file__).parent / "results"
SEEDS = (0, 1, 2)
LABELS = DemoSizes().labeled


@dataclass(frozen=True)
class Row:
    """One row of one table.

    Attributes:
        table: which.
        name: of the row, unique in its table.
        scored: node whose model is scored.
        paper: mask AP that the paper gives, on its own data, where it gives one.
        settings: changes to the preset's experiment.
        labels: labelled images, where their number is not the ablation's.
    """

    table: str
    name: str
    scored: str
    paper: float | None
    settings: tuple[str, ...] = ()
    labels: int | None = None

    @property
    def key(self) -> str:
        """What the figures are kept under: rows of two tables that are the same run have the same key."""
        return " ".join([self.scored, *self.settings, *([] if self.labels is None else [f"labels={self.labels}"])])


@dataclass(frozen=True)
class Ablation:
    """The rows of a method.

    Attributes:
        script: the file that a row's process starts, with the options of `main`.
        preset: the experiment that is changed.
        budget: the same changes for every row.
        rows: all tables.
        figures: logged series -> heading of its column; the mean of the last ten values is shown.
        labels: labelled images of a row.
    """

    script: Path
    preset: str
    budget: tuple[str, ...]
    rows: tuple[Row, ...]
    figures: Mapping[str, str] = field(default_factory=dict)
    labels: int = LABELS

    @property
    def results(self) -> Path:
        """Where the figures are kept."""
        return RESULTS / f"{self.script.stem}.json"

    @property
    def tables(self) -> list[str]:
        """Names of the tables, in order."""
        return list(dict.fromkeys(row.table for row in self.rows))

    def experiment(self, *settings: str) -> ExperimentConfig:
        """Return the preset's experiment with the budget and some changes."""
        return load_experiment(self.preset, [*self.budget, *settings])

    def run_row(self, row: Row, seed: int, state_dir: Path) -> dict[str, Any]:
        """Run the stages of a row and score its model on test."""
        with open_session(self.experiment(*row.settings, f"seed={seed}"), state_dir) as session:
            store = ObjectStore(session.storage)
            data = write_demo_dataset(store, seed, DemoSizes(labeled=row.labels or self.labels))
            experiment = session.model_copy(update={"data": data})
            manifests: dict[str, Manifest] = {}
            for name in _chain(experiment, row.scored):
                inputs = {key: manifests[source] for key, source in experiment.node(name).inputs.items()}
                manifests[name] = _run(experiment, name, inputs)
            last = manifests[row.scored]
            score = _score(manifests["prepare"], last, store)
            return {"mask_ap": score, "seconds": round(last.facts["seconds"]), **self._logged(last, store)}

    def run_missing(self, seeds: list[int], tables: list[str], jobs: int, state_dir: Path) -> None:
        """Run, in processes of their own, the rows that have no figures yet."""
        results = self.load()
        wanted = {row.key: row for row in self.rows if row.table in tables}
        missing = [(key, seed) for seed in seeds for key in wanted if str(seed) not in results["rows"].get(key, {})]

        def work(item: tuple[str, int]) -> tuple[str, int, str]:
            key, seed = item
            command = [sys.executable, str(self.script), "--row", key, "--seeds", str(seed)]
            done = subprocess.run(
                [*command, "--state-dir", str(state_dir)], check=True, stdout=subprocess.PIPE, text=True
            )
            return key, seed, done.stdout

        # The session stays open between rows, so that the embedded store is not started for each.
        with open_session(self.experiment(), state_dir), ThreadPoolExecutor(jobs) as pool:
            for number, (key, seed, output) in enumerate(pool.map(work, missing), start=1):
                figures = json.loads(output.splitlines()[-1]) | {"code": code_digest()}
                results["rows"].setdefault(key, {})[str(seed)] = figures
                results |= {
                    "evaluator": evaluator_name(),
                    "budget": list(self.budget),
                    "split": "test",
                    "labels": self.labels,
                }
                self.results.parent.mkdir(exist_ok=True)
                self.results.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n", encoding="utf-8")
                print(f"{number}/{len(missing)} seed {seed} {key}: {figures['mask_ap']:.1f}", flush=True)

    def load(self) -> dict[str, Any]:
        """Return what was measured so far: key of the row -> seed -> figures."""
        found: dict[str, Any] = {"rows": {}}
        if self.results.exists():
            found = json.loads(self.results.read_text(encoding="utf-8"))
        return found

    def table(self) -> str:
        """Return the tables in Markdown; a row without any figure is left out."""
        measured, lines = self.load()["rows"], []
        for name in self.tables:
            rows = [row for row in self.rows if row.table == name and row.key in measured]
            if not rows:
                continue
            headings = [name, "paper", "ours, mean", "sd", "seeds", *self.figures.values()]
            lines += ["", f"| {' | '.join(headings)} |", "|" + "---|" * len(headings)]
            lines += [self._line(row, list(measured[row.key].values())) for row in rows]
        return "\n".join(lines)

    def _line(self, row: Row, found: list[dict[str, float]]) -> str:
        values = [item["mask_ap"] for item in found]
        spread = f"{statistics.stdev(values):.1f}" if len(values) > 1 else ""
        paper = "" if row.paper is None else f"{row.paper:.1f}"
        more = [_mean(found, name) for name in self.figures]
        cells = [row.name, paper, f"{statistics.mean(values):.1f}", spread, str(len(values)), *more]
        return f"| {' | '.join(cells)} |"

    def _logged(self, manifest: Manifest, store: ObjectStore) -> dict[str, float]:
        series = json.loads(store.read(manifest.output("curves")))["series"]
        return {
            name: round(statistics.mean(value for _, value in series[name][-10:]), 4)
            for name in self.figures
            if series.get(name)
        }

    def main(self, description: str | None) -> None:
        """Run and report, as the command line says."""
        parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
        parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
        parser.add_argument("--tables", nargs="+", choices=self.tables, default=self.tables)
        parser.add_argument("--jobs", type=int, default=max(1, (os.cpu_count() or 1)), help="rows at a time")
        parser.add_argument("--state-dir", type=Path, default=Path(".sskd"))
        parser.add_argument("--table", action="store_true", help="print what there is and run nothing")
        parser.add_argument("--row", help=argparse.SUPPRESS)
        arguments = parser.parse_args()
        state_dir = arguments.state_dir.absolute()
        if arguments.row is not None:
            row = next(row for row in self.rows if row.key == arguments.row)
            print(json.dumps(self.run_row(row, arguments.seeds[0], state_dir)))
            return
        if not arguments.table:
            self.run_missing(arguments.seeds, arguments.tables, arguments.jobs, state_dir)
        print(self.table())


def _chain(experiment: ExperimentConfig, scored: str) -> list[str]:
    """Return the nodes that must run for a node, itself last."""
    names: list[str] = []
    for source in experiment.node(scored).inputs.values():
        names += [name for name in _chain(experiment, source) if name not in names]
    return [*names, scored]


def _run(experiment: ExperimentConfig, name: str, inputs: dict[str, Manifest]) -> Manifest:
    if experiment.node(name).fan_out:
        run_node(experiment, name, inputs, worker=0)
    return run_node(experiment, name, inputs)


def _score(data: Manifest, trained: Manifest, store: ObjectStore) -> float:
    dataset = Dataset.load(data, store)
    test = Validator(dataset.images("test"), dataset.ground_truth("test"), dataset.read_image)
    return round(test(load_trained(trained, store)), 3)


def _mean(found: list[dict[str, float]], name: str) -> str:
    values = [item[name] for item in found if name in item]
    return f"{statistics.mean(values):.3f}" if values else ""
