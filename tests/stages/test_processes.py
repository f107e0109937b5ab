"""A training node in two processes, as the pipeline starts it: the same contract, the same network."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest
import torch

from sskd_core.config.train_job import TrainJobConfig
from sskd_core.errors import ConfigError, UserError
from sskd_core.models.trained import load_trained
from sskd_core.stages import processes
from sskd_core.stages.entry import run_node
from sskd_core.stages.processes import RANK_MODULE, TRAIN_JOB_VARIABLE, Task
from sskd_core.storage.manifest import Manifest
from sskd_core.storage.store import ObjectStore
from tests.micro import micro_data, micro_experiment

NODE = "train_supervised"


def experiment_in(store: ObjectStore, root: str, **train):
    """Return the micro experiment below a root of its own, and the manifests that the node reads."""
    storage = store.config.model_copy(update={"root": f"{store.root}/{root}", "read_roots": [store.root]})
    experiment = micro_experiment(storage, micro_data(store))
    supervised = experiment.stages.train_supervised.model_copy(update=train)
    stages = experiment.stages.model_copy(update={"train_supervised": supervised})
    experiment = experiment.model_copy(update={"stages": stages})
    return experiment, {"data": run_node(experiment, "prepare", {})}


def weights(manifest: Manifest, store: ObjectStore) -> torch.Tensor:
    return torch.cat([value.flatten() for value in load_trained(manifest, store).state_dict().values()])


@pytest.fixture
def alone(store) -> Manifest:
    """The result of one process."""
    experiment, inputs = experiment_in(store, "alone")
    return run_node(experiment, NODE, inputs)


def close(manifest: Manifest, other: Manifest, store: ObjectStore) -> bool:
    ours, theirs = weights(manifest, store), weights(other, store)
    # A learning rate of 1e-6 over four steps moves no value by more than four of them.
    return torch.allclose(ours, theirs, atol=1e-5)


def test_a_stage_in_two_processes_commits_what_one_would(store, alone):
    experiment, inputs = experiment_in(store, "together", processes=2)
    manifest = run_node(experiment, NODE, inputs)
    assert manifest.fingerprint == alone.fingerprint
    assert manifest.facts["processes"] == 2
    assert [ref.name for ref in manifest.outputs] == [ref.name for ref in alone.outputs]
    assert close(manifest, alone, ObjectStore(experiment.storage.model_copy(update={"root": store.root})))
    left = {item.uri for item in store.list(f"{store.root}/together/stages/{NODE}")}
    assert left == {manifest.uri, *(ref.uri for ref in manifest.outputs)}
    assert run_node(experiment, NODE, inputs) == manifest


def test_two_machines_by_the_variables_of_kubeflow_trainer_commit_the_same(store, alone):
    """Its pods get the place of their machine in `PET_*`, which torchrun reads as its own options."""
    experiment, inputs = experiment_in(store, "machines")
    task = Task(experiment=experiment, node=NODE, inputs={name: item.uri for name, item in inputs.items()})
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    common = {"PET_NNODES": "2", "PET_NPROC_PER_NODE": "1", "PET_MASTER_ADDR": "127.0.0.1", "PET_MASTER_PORT": port}
    machines = [
        subprocess.Popen(
            [sys.executable, "-m", "torch.distributed.run", "-m", RANK_MODULE],
            env={**os.environ, **common, "PET_NODE_RANK": str(number), "SSKD_TASK": task.model_dump_json()},
        )
        for number in (0, 1)
    ]
    assert [machine.wait(120) for machine in machines] == [0, 0]
    manifest = run_node(experiment, NODE, inputs)
    assert manifest.facts["processes"] == 2
    assert close(manifest, alone, ObjectStore(experiment.storage.model_copy(update={"root": store.root})))


def test_what_a_process_refuses_is_the_error_of_the_stage(store):
    experiment, inputs = experiment_in(store, "refused", processes=2)
    model = experiment.student.model_copy(update={"encoder_weights": "s3://elsewhere/weights"})
    with pytest.raises(UserError, match="outside the allowed prefixes"):
        run_node(experiment.model_copy(update={"student": model}), NODE, inputs)
    assert list(store.list(f"{store.root}/refused/stages/{NODE}")) == []


def test_machines_that_do_not_divide_the_batch_are_refused_before_any_is_asked_for(store, monkeypatch):
    experiment, inputs = experiment_in(store, "machines")
    config = TrainJobConfig(machines=3, cpu="1", memory="1Gi", image="x")
    monkeypatch.setenv(TRAIN_JOB_VARIABLE, config.model_dump_json())
    with pytest.raises(ConfigError, match="labeled_batch of 2 images a step cannot be divided among 3 processes"):
        run_node(experiment, NODE, inputs)


def test_on_several_machines_the_job_has_the_task_and_a_name_of_the_result(store, monkeypatch):
    experiment, inputs = experiment_in(store, "machines")
    config = TrainJobConfig(machines=2, cpu="1", memory="1Gi", image="x")
    monkeypatch.setenv(TRAIN_JOB_VARIABLE, config.model_dump_json())
    seen = []
    monkeypatch.setattr(
        processes, "_run_on", lambda *arguments: seen.append(arguments) or (_ for _ in ()).throw(UserError("seen"))
    )
    with pytest.raises(UserError, match="seen"):
        run_node(experiment, NODE, inputs)
    ((machines, name, task, _),) = seen
    assert machines == config
    assert name.startswith("sskd-train-supervised-")
    assert Task.model_validate_json(task).inputs == {"data": inputs["data"].uri}


def test_auto_is_one_process_where_there_is_no_gpu(store, alone, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    experiment, inputs = experiment_in(store, "auto", processes="auto")
    assert run_node(experiment, NODE, inputs).facts["processes"] == 1
