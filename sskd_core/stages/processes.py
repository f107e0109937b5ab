"""Sharing one training among processes: whether to, how they are started, and what they are told."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping

from sskd_core.config.base import StrictModel, validate
from sskd_core.config.experiment import ExperimentConfig
from sskd_core.config.graph import Node
from sskd_core.config.train import TrainConfig, TrainStageConfig
from sskd_core.config.train_job import TrainJobConfig
from sskd_core.distributed.launch import run_processes
from sskd_core.errors import ConfigError
from sskd_core.progress import Progress
from sskd_core.storage.manifest import Manifest

RANK_MODULE = "sskd_core.stages.rank"
TRAIN_JOB_VARIABLE = "SSKD_TRAIN_JOB"
"""Set by a pipeline on a training that is to run on several machines: which, as JSON."""


class Task(StrictModel):
    """What every process of a training is told.

    Attributes:
        experiment: the whole run.
        node: of it.
        inputs: input name -> URI of its manifest.
    """

    experiment: ExperimentConfig
    node: str
    inputs: dict[str, str]


def start(
    experiment: ExperimentConfig,
    node: Node,
    config: StrictModel,
    inputs: Mapping[str, Manifest],
    fingerprint: str,
    progress: Progress,
) -> bool:
    """Run a node in several processes, here or on several machines, if it is a training that is to be shared.

    Args:
        experiment: the whole run.
        node: of it.
        config: of the node.
        inputs: manifests by input name.
        fingerprint: of the result.
        progress: is told how many there are.

    Returns:
        Whether it was; then its manifest is committed.

    Raises:
        UserError: a batch cannot be divided, or a process refused or died.
        Interrupted: SIGTERM arrived; the state is saved.
    """
    if not isinstance(config, TrainStageConfig):
        return False
    machines = _machines()
    count = machines.processes if machines else _here(config.train)
    if count == 1:
        return False
    if problem := config.train.indivisible(count):
        raise ConfigError(f"stage '{node.name}': {problem}; choose another batch, or fewer processes")
    uris = {name: item.uri for name, item in inputs.items() if name in node.inputs}
    task = Task(experiment=experiment, node=node.name, inputs=uris).model_dump_json()
    progress.note(f"shared among {count} processes")
    if machines is None:
        run_processes(count, RANK_MODULE, task)
    else:
        _run_on(
            machines, f"sskd-{node.name.replace('_', '-')}-{fingerprint.removeprefix('sha256:')[:12]}", task, progress
        )
    return True


def _run_on(machines: TrainJobConfig, name: str, task: str, progress: Progress) -> None:
    from sskd_core.distributed.train_job import Cluster, Jobs, train_job

    Jobs(Cluster.of_this_pod()).run(train_job(machines, name, RANK_MODULE, task), progress.note)


def _machines() -> TrainJobConfig | None:
    text = os.environ.get(TRAIN_JOB_VARIABLE)
    return validate(TrainJobConfig, json.loads(text), TRAIN_JOB_VARIABLE) if text else None


def _here(train: TrainConfig) -> int:
    if train.processes != "auto":
        return train.processes
    import torch

    return max(1, torch.cuda.device_count())
