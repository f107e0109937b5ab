"""Running one node of the pipeline: everything between "here are the manifests" and "here is the new one".

Components, `sskd stage` and tests all come through `run_node`. It looks for an earlier result before it imports
anything heavy, so that running a finished pipeline again takes seconds.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from sskd_core.config.base import StrictModel
from sskd_core.config.experiment import ExperimentConfig
from sskd_core.config.graph import BASELINE, BESIDE_BASELINE, Method, Node
from sskd_core.config.train import TrainStageConfig
from sskd_core.distributed.launch import follows, started_by_torchrun
from sskd_core.errors import ConfigError, DataError, IntegrityError, Interrupted, UserError
from sskd_core.interrupt import interruptible
from sskd_core.progress import NoProgress, Progress
from sskd_core.stages import contract, processes
from sskd_core.stages.alone import alone
from sskd_core.stages.registry import REPORT, find_node, implementation
from sskd_core.stages.taken_over import further_inputs, standing_result
from sskd_core.storage.digest import digest_json
from sskd_core.storage.manifest import Manifest
from sskd_core.storage.store import ObjectStore

if TYPE_CHECKING:
    from sskd_core.tracking.run import TrackingRun

SHARED_VARIABLE = "SSKD_SHARED_MACHINE"
"""Set by a runner whose tasks share one machine."""
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")


def run_node(
    experiment: ExperimentConfig, node: str, inputs: Mapping[str, Manifest], worker: int | None = None
) -> Manifest:
    """Run a node, or find what it did before.

    Args:
        experiment: the whole run; the node takes its own part.
        node: name in the method's graph, or `report`.
        inputs: manifests by the stage's input names.
        worker: number of the worker, for a node that fans out; None collects what its workers wrote.

    Returns:
        The committed manifest; for a worker of an unfinished node, the worker's own.

    Raises:
        UserError: the user can mend it; nothing was committed.
        Interrupted: SIGTERM arrived; the same call goes on where it stopped.
    """
    progress = (NoProgress if follows() else Progress)(node if worker is None else f"{node}.{worker}")
    with _ending(progress), interruptible():
        progress.start()
        store = ObjectStore(experiment.storage)
        standing = standing_result(experiment, node, store)
        if standing is not None:
            progress.end("cached")
            return standing
        job = _job(experiment, find_node(node, experiment.method), inputs, worker, progress, store)
        if job.is_shared:
            manifest = _take_part(job)
            progress.end("done")
            return manifest
        existing = job.find()
        if existing is None:
            with alone(experiment.storage.cache_dir, job.lock, progress):
                existing = job.find()
                if existing is None:
                    manifest = _execute(job)
                    progress.end("done")
                    return manifest
        _follow_up(job, existing)
        progress.end("cached")
        return existing


def find_result(experiment: ExperimentConfig, node: str, inputs: Mapping[str, Manifest]) -> Manifest | None:
    """Return what `run_node` would find done, without doing it.

    Raises:
        UserError: the store does not answer, or an input is missing.
    """
    store = ObjectStore(experiment.storage)
    standing = standing_result(experiment, node, store)
    return standing or _job(experiment, find_node(node, experiment.method), inputs, None, Progress(node), store).find()


def run_rank(experiment: ExperimentConfig, node: str, inputs: Mapping[str, Manifest]) -> Manifest:
    """Take part in a training that `run_node` shares among processes, in one that torchrun started for it.

    Args:
        experiment: as `run_node` has it, likewise the others.
        node: name of a training node.
        inputs: manifests by the stage's input names.

    Raises:
        UserError: the user can mend it.
        Interrupted: SIGTERM arrived; the state is saved.
    """
    progress = (NoProgress if follows() else Progress)(node)
    with interruptible():
        place, store = find_node(node, experiment.method), ObjectStore(experiment.storage)
        return _take_part(_job(experiment, place, inputs, None, progress, store))


def pipeline_key(experiment: ExperimentConfig) -> str:
    """Return what identifies all runs of the same work: the name and every setting that decides a result."""
    settings = {item.name: experiment.stage_config(item.name).fingerprint_dict() for item in experiment.nodes}
    taken = None if experiment.takes_over is None else experiment.takes_over.fingerprint_dict()
    return digest_json({"name": experiment.name, "method": experiment.method, "stages": settings, "takes_over": taken})


@dataclass(frozen=True)
class _Job:
    """A node that is about to run."""

    experiment: ExperimentConfig
    node: Node
    worker: int | None
    config: StrictModel
    inputs: Mapping[str, Manifest]
    store: ObjectStore
    progress: Progress
    fingerprint: str

    def find(self) -> Manifest | None:
        """Return the committed result; a report is never found, it is made anew."""
        return contract.find(self.store, self.node.stage, self.fingerprint) if self.node.name != REPORT else None

    @property
    def is_shared(self) -> bool:
        """Whether this process is one of several that run the node together."""
        return started_by_torchrun() and isinstance(self.config, TrainStageConfig)

    @property
    def lock(self) -> str:
        """What no two processes of a machine should work on at once; workers share a result and not their part."""
        part = "" if self.worker is None else f".{self.worker}"
        return f"{self.node.stage}-{self.fingerprint.removeprefix('sha256:')[:32]}{part}"


def _job(
    experiment: ExperimentConfig,
    node: Node,
    inputs: Mapping[str, Manifest],
    worker: int | None,
    progress: Progress,
    store: ObjectStore,
) -> _Job:
    _check_worker(experiment, node, worker)
    _check_inputs(node, inputs, experiment.method)
    inputs = {**inputs, **further_inputs(experiment, node.name, store)}
    config = experiment if node.name == REPORT else experiment.stage_config(node.name, worker or 0)
    return _Job(
        experiment=experiment,
        node=node,
        worker=worker,
        config=config,
        inputs=inputs,
        store=store,
        progress=progress,
        fingerprint=contract.stage_fingerprint(node.stage, config, inputs),
    )


def _check_worker(experiment: ExperimentConfig, node: Node, worker: int | None) -> None:
    if worker is None:
        return
    if not node.fan_out:
        raise ConfigError(f"stage '{node.name}' has no workers; leave out worker {worker}")
    if not 0 <= worker < experiment.label_workers:
        raise ConfigError(
            f"stage '{node.name}' has no worker {worker}: label_workers is {experiment.label_workers} and they count "
            "from 0"
        )


def _check_inputs(node: Node, inputs: Mapping[str, Manifest], method: Method) -> None:
    for name, source in node.inputs.items():
        if name not in inputs:
            if node.name == REPORT:  # A run that broke off is reported, too.
                continue
            raise ConfigError(f"stage '{node.name}' needs the input '{name}': the manifest of '{source}'")
        expected = find_node(source, method).stage
        if inputs[name].stage != expected:
            raise IntegrityError(
                f"stage '{node.name}' wants as '{name}' a manifest of stage '{expected}', but {inputs[name].uri} is of "
                f"stage '{inputs[name].stage}'"
            )
    unknown = sorted(set(inputs) - set(node.inputs))
    if unknown:
        raise ConfigError(
            f"stage '{node.name}' has no input '{unknown[0]}'; its inputs are: {', '.join(node.inputs) or 'none'}"
        )


def _follow_up(job: _Job, manifest: Manifest) -> None:
    """Let a stage make sure of its effect outside of the store."""
    code = implementation(job.node.stage, worker=False)
    if code.on_cached is not None:
        getattr(code.load(), code.on_cached)(manifest, job.store, job.experiment.tracking)


def _take_part(job: _Job) -> Manifest:
    """Run a training in one of its processes; the leader decides whether there is anything to do, and commits."""
    from sskd_core.distributed import group
    from sskd_core.tracking.run import NullRun

    assert isinstance(job.config, TrainStageConfig)
    with group.joined(60.0 * job.config.train.process_timeout_minutes):
        manifest = job.find() if group.leads() else None
        if group.told("found" if manifest else "work") == "work":
            if group.leads():
                manifest = _execute(job)
            else:
                code = implementation(job.node.stage, worker=False)
                _set_threads(_threads(job), code.uses_torch)
                with TemporaryDirectory(prefix="sskd-") as scratch:
                    getattr(code.load(), code.function)(job.config, job.inputs, _context(job, NullRun(), scratch))
            group.told("committed")
        manifest = manifest or job.find()
    assert manifest is not None
    return manifest


def _context(job: _Job, run: TrackingRun, scratch: str) -> contract.StageContext:
    return contract.StageContext(
        store=job.store,
        run=run,
        progress=job.progress,
        prefix=contract.stage_prefix(job.store, job.node.stage, job.fingerprint),
        workdir=Path(scratch),
        fingerprint=job.fingerprint,
    )


def _execute(job: _Job) -> Manifest:
    if not job.is_shared and processes.start(
        job.experiment, job.node, job.config, job.inputs, job.fingerprint, job.progress
    ):
        committed = job.find()
        assert committed is not None
        return committed
    code = implementation(job.node.stage, worker=job.worker is not None)
    _set_threads(_threads(job), code.uses_torch)
    module = code.load()
    part = None if job.worker is None else module.part_name(job.config)
    with _tracked(job) as run, TemporaryDirectory(prefix="sskd-") as scratch:
        context = _context(job, run, scratch)
        function = getattr(module, code.function)
        manifest = contract.execute(
            job.node.stage, function, job.config, job.inputs, context, part, reuse=job.node.name != REPORT
        )
        if job.worker is None:
            _track(job, run, manifest)
        return manifest


def _threads(job: _Job) -> int | None:
    """Return the CPU threads of this stage; None leaves it to the libraries.

    What runs side by side on one machine would each take all cores and wait for each other. How many there can be
    decides, not how many there are: the sums of a training depend on its threads. The processes of one training divide
    its threads.
    """
    together = int(os.environ.get("LOCAL_WORLD_SIZE") or 1) if job.is_shared else 1
    threads = _threads_of_all(job)
    return threads if together == 1 else max(1, (threads or os.cpu_count() or 1) // together)


def _threads_of_all(job: _Job) -> int | None:
    experiment = job.experiment
    if experiment.threads is not None or not os.environ.get(SHARED_VARIABLE):
        return experiment.threads
    beside = experiment.label_workers if job.worker is not None else 1
    if job.node.name in (BASELINE, BESIDE_BASELINE) and experiment.trains_baseline_beside:
        beside = experiment.side_by_side
    return max(1, (os.cpu_count() or 1) // beside) if beside > 1 else None


def _set_threads(threads: int | None, uses_torch: bool) -> None:
    """Limit CPU threads. The variables must be set before the numeric libraries are imported."""
    if threads is None:
        return
    os.environ.update(dict.fromkeys(_THREAD_VARIABLES, str(threads)))
    if uses_torch:
        import torch

        torch.set_num_threads(threads)


@contextmanager
def _ending(progress: Progress) -> Iterator[None]:
    """Tell of every ending but the good one."""
    try:
        yield
    except (Interrupted, KeyboardInterrupt) as error:
        progress.end("interrupted", str(error))
        raise
    except UserError as error:
        progress.end("refused", str(error), error.problems if isinstance(error, DataError) else ())
        raise
    except BaseException as error:
        progress.end("failed", f"{type(error).__name__}: {error}".splitlines()[0])
        raise


@contextmanager
def _tracked(job: _Job) -> Iterator[TrackingRun]:
    """Open the tracking run of a stage and close it as the stage ends. Workers and the report have none."""
    from sskd_core.tracking.run import NullRun

    if job.worker is not None or job.node.name == REPORT:
        yield NullRun()
        return
    from sskd_core.tracking.open import open_stage_run

    experiment = job.experiment
    run = open_stage_run(
        experiment.tracking,
        job.node.name,
        job.node.stage,
        job.fingerprint,
        pipeline_key(experiment),
        experiment.storage,
    )
    try:
        _describe(job, run)
        yield run
    except BaseException as error:
        run.close("KILLED" if isinstance(error, (Interrupted, KeyboardInterrupt)) else "FAILED")
        raise
    run.close("FINISHED")


def _describe(job: _Job, run: TrackingRun) -> None:
    """Log what a stage is about to do."""
    run.log_params(_flat(job.config.fingerprint_dict()))
    run.set_tags({"sskd.seed": str(job.experiment.seed)})
    for name, item in job.inputs.items():
        run.log_input(name, item.uri, item.digest, context=job.node.stage)


def _track(job: _Job, run: TrackingRun, manifest: Manifest) -> None:
    """Log what the manifest says, and tell the parent run where this manifest and those before it are.

    A stage whose result was found opens no run; the next stage that does work, or the report, names it instead.
    """
    from sskd_core.tracking.open import record_stages

    known = {source: job.inputs[name] for name, source in job.node.inputs.items() if name in job.inputs}
    if job.node.name != REPORT:
        run.log_metrics(manifest.metrics)
        run.set_tags({"sskd.manifest.uri": manifest.uri, "sskd.manifest.digest": manifest.digest})
        known[job.node.name] = manifest
    record_stages(job.experiment.tracking, pipeline_key(job.experiment), known, job.experiment.storage)


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat
