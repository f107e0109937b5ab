"""`sskd run` and `sskd demo`: the whole pipeline on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sskd_core.cli.options import DEFAULT_STATE_DIR, Experiment, Json, Overrides, Seed, StateDir, with_seed

if TYPE_CHECKING:
    from sskd_core.config.data import DataConfig
    from sskd_core.config.experiment import ExperimentConfig
    from sskd_core.storage.store import ObjectStore

DEMO = "demo"
_SETTINGS = ("side_by_side=2",)
"""Of the demo alone, which is for CPU cores: on one GPU two trainings would only be in each other's way."""


def run(
    experiment: Experiment,
    overrides: Overrides = None,
    seed: Seed = None,
    state_dir: StateDir = DEFAULT_STATE_DIR,
    as_json: Json = False,
) -> None:
    """Run an experiment: adapt the teacher, label, distil, refine, evaluate, export, register."""
    from sskd_core.config.loading import load_experiment

    _run(load_experiment(experiment, with_seed(overrides, seed)), state_dir.absolute(), as_json, demo=False)


def demo(
    preset: Annotated[str, typer.Option(help="Preset whose data are the rendered scenes: demo or demo_guided.")] = DEMO,
    overrides: Overrides = None,
    seed: Seed = None,
    state_dir: StateDir = DEFAULT_STATE_DIR,
    as_json: Json = False,
) -> None:
    """Run the whole job on rendered scenes: nothing to prepare, minutes on two CPU cores."""
    from sskd_core.config.loading import load_experiment

    settings = [*_SETTINGS, *with_seed(overrides, seed)]
    _run(load_experiment(_demo_preset(preset), settings), state_dir.absolute(), as_json, demo=True)


def _run(experiment: ExperimentConfig, state_dir: Path, as_json: bool, demo: bool) -> None:
    from sskd_core.cli.launch import run_pipeline
    from sskd_core.cli.output import messages
    from sskd_core.cli.results import keep_results, show_results
    from sskd_core.cli.session import open_session
    from sskd_core.stages.configure import pinned
    from sskd_core.storage.store import ObjectStore

    console = messages()
    with open_session(experiment, state_dir) as complete:
        store = ObjectStore(complete.storage)
        if demo:
            complete = complete.model_copy(update={"data": _demo_data(store, complete.seed)})
        manifest = run_pipeline(pinned(complete, store), state_dir, console)
        kept = keep_results(manifest, store, state_dir / "reports" / f"{experiment.name}-seed{experiment.seed}")
    show_results(kept, as_json)


def _demo_preset(name: str) -> str:
    """Return the preset, if the demo's data are its own.

    Raises:
        ConfigError: they are not.
    """
    from sskd_core.config.loading import preset_names
    from sskd_core.errors import ConfigError

    known = [item for item in preset_names() if item.split("_")[0] == DEMO]
    if name not in known:
        raise ConfigError(f"--preset {name}: no preset for the demo's data; one of {', '.join(known)} is")
    return name


def _demo_data(store: ObjectStore, seed: int) -> DataConfig:
    """Put the demo scenes into the store, once, with a bar while they are drawn."""
    from rich.progress import Progress

    from sskd_core.cli.output import messages
    from sskd_core.data.demo import write_demo_dataset

    with Progress(console=messages(), transient=True) as bar:
        task = bar.add_task("rendering demo scenes", total=None)
        return write_demo_dataset(
            store, seed, progress=lambda done, total: bar.update(task, completed=done, total=total)
        )
