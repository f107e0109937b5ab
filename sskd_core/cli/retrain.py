"""`sskd retrain`: go on from the champion when new images have arrived."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sskd_core.cli.options import (
    DEFAULT_STATE_DIR,
    AllowTag,
    CaFile,
    Cluster,
    Host,
    Image,
    Json,
    KfpExperiment,
    Namespace,
    Overrides,
    ServiceAccount,
    Settings,
    StateDir,
    TokenFile,
)

if TYPE_CHECKING:
    from rich.console import Console

    from sskd_core.config.data import LabeledSource
    from sskd_core.config.experiment import ExperimentConfig
    from sskd_core.config.tracking import TrackingConfig
    from sskd_core.retraining.plan import Plan
    from sskd_core.retraining.request import RetrainRequest
    from sskd_core.storage.store import ObjectStore

_MAX_SKIPPED = 50
"""Lines about files that are left out; a folder of photographs may have a side-car file for each."""

Annotations = Annotated[
    list[str] | None,
    typer.Option("--labeled", metavar="FILE=IMAGES", help="New annotations (COCO) and the folder of their images."),
]


def retrain(
    unlabeled: Annotated[
        list[str], typer.Option("--unlabeled", metavar="URI", help="Folder or prefix to look for new images in.")
    ],
    labeled: Annotations = None,
    test: Annotated[
        str | None, typer.Option("--test", metavar="FILE=IMAGES", help="A new test split; both models meet it.")
    ] = None,
    model: Annotated[str, typer.Option("--from", help="Version to go on from: alias, number or URI.")] = "champion",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be done, and do nothing.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Keep looking; see retrain.* of the settings.")] = False,
    submit: Annotated[
        bool, typer.Option("--submit", help="Look here, and start the run on a KFP server, as `sskd submit` does.")
    ] = False,
    host: Host = None,
    namespace: Namespace = None,
    token_file: TokenFile = None,
    ca_file: CaFile = None,
    kfp_experiment: KfpExperiment = "sskd",
    service_account: ServiceAccount = None,
    cluster: Cluster = None,
    image: Image = None,
    allow_tag: AllowTag = False,
    overrides: Overrides = None,
    experiment: Settings = None,
    state_dir: StateDir = DEFAULT_STATE_DIR,
    as_json: Json = False,
) -> None:
    """Label what is new, train on from a registered model, and register a challenger."""
    from sskd_core.cli.orchestrator import given
    from sskd_core.cli.registry import open_registry
    from sskd_core.config.loading import load_experiment
    from sskd_core.errors import UserError
    from sskd_core.retraining.request import RetrainRequest

    if watch and dry_run:
        raise UserError("--watch runs and --dry-run does not; give one of them")
    if watch and submit:
        raise UserError("--watch runs here and --submit elsewhere; give one of them: --submit is for a schedule")
    request = RetrainRequest(
        unlabeled=[_absolute(item) for item in unlabeled],
        labeled=[_source(item) for item in labeled or []],
        test=None if test is None else _source(test),
        model=model,
        base=None if experiment is None else load_experiment(experiment),
        overrides=overrides or [],
    )
    submission = None
    if submit:
        _refuse_what_stays_here(request, experiment)
        submission = given(
            host=host,
            namespace=namespace,
            token_file=token_file,
            ca_file=ca_file,
            kfp_experiment=kfp_experiment,
            service_account=service_account,
            cluster=cluster,
            image=image,
            allow_tag=allow_tag,
        )
    with open_registry(experiment, state_dir.absolute()) as (tracking, store):
        job = _Job(request, tracking, store, state_dir.absolute(), as_json, submission)
        if watch:
            _watch(job)
        else:
            _once(job, dry_run)


@dataclass(frozen=True)
class _Job:
    request: RetrainRequest
    tracking: TrackingConfig
    store: ObjectStore
    state_dir: Path
    as_json: bool
    submission: list[str] | None


def _once(job: _Job, dry_run: bool) -> int:
    """Look once, and run if it is worth it; return how many new images were too few for a run."""
    from rich.progress import Progress

    from sskd_core.cli.launch import run_pipeline
    from sskd_core.cli.output import messages
    from sskd_core.cli.results import keep_results, show_results
    from sskd_core.retraining.request import Retrain

    with Progress(console=messages(), transient=True) as bar:
        task = bar.add_task("looking for new images", total=None)
        plan, experiment = Retrain(job.request, job.tracking, job.store).prepare(
            write=not dry_run, step=lambda done, total: bar.update(task, completed=done, total=total)
        )
    minimum = experiment.retrain.min_new_images
    if dry_run or not plan.is_worth(minimum):
        _show(plan, minimum, job.as_json)
        return plan.new
    _tell(plan)
    if job.submission is not None:
        _submit(experiment, job.request.base, job.submission, job.as_json)
        return 0
    manifest = run_pipeline(experiment, job.state_dir, messages())
    kept = keep_results(manifest, job.store, job.state_dir / "reports" / f"{experiment.name}-seed{experiment.seed}")
    show_results(kept, job.as_json)
    return 0


def _submit(experiment: ExperimentConfig, base: ExperimentConfig | None, words: list[str], as_json: bool) -> None:
    from sskd_core.cli.orchestrator import start_run
    from sskd_core.cli.output import show_started

    # The cache that this command used is a folder of this machine.
    folder = None if base is None else base.storage.cache_dir
    storage = experiment.storage.model_copy(update={"cache_dir": folder})
    show_started(start_run(experiment.model_copy(update={"storage": storage}), words), as_json)


def _refuse_what_stays_here(request: RetrainRequest, experiment: str | None) -> None:
    """Refuse places, a store and a registry that a cluster's tasks cannot reach."""
    from sskd_core.cli.session import settings_of
    from sskd_core.errors import ConfigError

    sources = [*request.labeled, *([request.test] if request.test else [])]
    places = [*request.unlabeled, *(place for source in sources for place in (source.annotations, source.images))]
    local = next((place for place in places if not place.startswith("s3://")), None)
    if local is not None:
        raise ConfigError(
            f"--submit: {local} is on this machine, where a cluster's tasks cannot read it; put it under s3://"
        )
    storage, tracking = settings_of(experiment)
    if storage.root is None:
        raise ConfigError("--submit: storage.root is required, the cluster's store; name a file that has it: -e FILE")
    if tracking.uri is None and not os.environ.get("MLFLOW_TRACKING_URI"):
        raise ConfigError("--submit: tracking.uri or MLFLOW_TRACKING_URI is required, the cluster's registry")


def _watch(job: _Job) -> None:
    import time

    from sskd_core.retraining.request import Retrain
    from sskd_core.retraining.watch import Watch, watch

    looking = Retrain(job.request, job.tracking, job.store)
    settings = looking.config
    watch(
        Watch(settings.min_new_images, settings.quiet_seconds),
        looking.listing,
        lambda: _once(job, dry_run=False),
        time.monotonic,
        lambda: time.sleep(settings.poll_seconds),
    )


def _source(item: str) -> LabeledSource:
    from sskd_core.config.data import LabeledSource
    from sskd_core.errors import UserError

    annotations, separator, images = item.partition("=")
    if not separator or not annotations or not images:
        raise UserError(f"{item}: write it as FILE=IMAGES, for instance labels/new.json=labels/images")
    return LabeledSource(annotations=_absolute(annotations), images=_absolute(images))


def _absolute(location: str) -> str:
    return location if "://" in location else str(Path(location).expanduser().absolute())


def _tell(plan: Plan) -> None:
    """Say before a run what it skips, and what it is for."""
    from sskd_core.cli.format import duration
    from sskd_core.cli.output import messages

    console = messages()
    _list_skipped(plan, console)
    estimate = duration(plan.seconds)
    told = f"{plan.counts}; going on from version {plan.champion}, about {estimate} by the last run"
    console.print(told, soft_wrap=True)


def _list_skipped(plan: Plan, console: Console) -> None:
    for line in plan.skipped[:_MAX_SKIPPED]:
        console.print(line, markup=False, soft_wrap=True)
    if len(plan.skipped) > _MAX_SKIPPED:
        console.print(f"and {len(plan.skipped) - _MAX_SKIPPED} more; --dry-run --json lists all")


def _show(plan: Plan, minimum: int, as_json: bool) -> None:
    from rich.table import Table

    from sskd_core.cli.format import duration
    from sskd_core.cli.output import answers, print_json

    if as_json:
        print_json(plan.to_dict())
        return
    console = answers()
    _list_skipped(plan, console)
    if not plan.is_worth(minimum):
        few = "nothing new" if not plan.new else f"fewer than retrain.min_new_images = {minimum} are new"
        console.print(f"{few}, so there is nothing to do: {plan.counts}", soft_wrap=True)
        return
    table = Table("stage", "state", "seconds", title=f"Going on from version {plan.champion}: {plan.counts}")
    for step in plan.steps:
        table.add_row(step.node, step.state, f"{step.seconds:.0f}" if step.seconds else "")
    console.print(table)
    console.print(f"about {duration(plan.seconds)} by the last run")
