"""Trainings on several machines, against a server that reads a TrainJob as strictly as Kubernetes would."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator

import pytest
from kube_server import KubeServer, client_of, kube_server

from sskd_core.config.train_job import TrainJobConfig
from sskd_core.distributed.train_job import Cluster, Jobs, train_job
from sskd_core.errors import Interrupted, UserError

CONFIG = TrainJobConfig(
    machines=2,
    gpus=4,
    cpu="8",
    memory="64Gi",
    image="registry.example/sskd@sha256:" + "a" * 64,
    secrets={"sskd-s3": {"access-key": "AWS_ACCESS_KEY_ID", "secret-key": "AWS_SECRET_ACCESS_KEY"}},
    config_maps={"sskd": {"mlflow-uri": "MLFLOW_TRACKING_URI"}},
)
NAME = "sskd-distill-0123456789ab"


@pytest.fixture
def server() -> Iterator[KubeServer]:
    with kube_server() as running:
        yield running


def job(task="{}", **environment: str):
    return train_job(CONFIG, NAME, "sskd_core.stages.rank", task, environment)


def run(server: KubeServer, **values) -> list[str]:
    """Run the job; return what was told."""
    told: list[str] = []
    Jobs(Cluster(client_of(server), "team"), poll_seconds=0.0).run(job(**values), told.append)
    return told


def test_the_job_names_machines_processes_and_where_the_secrets_are():
    trainer = job(task="the task", MLFLOW_RUN_ID="abc", HOME="/root")["spec"]["trainer"]
    assert (trainer["numNodes"], trainer["numProcPerNode"]) == (2, 4)
    assert trainer["command"] == ["python3", "-m", "torch.distributed.run", "-m", "sskd_core.stages.rank"]
    assert trainer["resourcesPerNode"]["limits"] == {"cpu": "8", "memory": "64Gi", "nvidia.com/gpu": 4}
    assert [item["name"] for item in trainer["env"] if "value" in item] == ["SSKD_TASK", "MLFLOW_RUN_ID"]
    secret = {"name": "sskd-s3", "key": "secret-key", "optional": True}
    assert {"name": "AWS_SECRET_ACCESS_KEY", "valueFrom": {"secretKeyRef": secret}} in trainer["env"]
    assert CONFIG.processes == 8


def test_a_job_is_made_watched_and_taken_away(server: KubeServer):
    server.conditions = [None, None, ("Complete", "done")]
    assert run(server) == [f"made the TrainJob team/{NAME} of 2 machines"]
    assert server.looks == 3
    assert server.requests[0].startswith("POST")
    assert server.requests[-1].startswith("DELETE")
    assert server.jobs == {}


def test_a_job_that_runs_already_is_waited_for(server: KubeServer):
    server.jobs[NAME] = job()
    server.conditions = [None, None, ("Complete", "done")]
    assert run(server) == [f"the TrainJob team/{NAME} runs already; waiting for it"]


@pytest.mark.parametrize("old", ["failed", "another task"])
def test_one_that_is_of_no_use_is_replaced(server: KubeServer, old: str):
    server.jobs[NAME] = job(task="{}" if old == "failed" else "other")
    server.conditions = [("Failed", "x") if old == "failed" else None, ("Complete", "done")]
    assert run(server) == [f"made the TrainJob team/{NAME} of 2 machines"]


def test_a_failed_job_says_why_and_stays_for_whoever_looks(server: KubeServer):
    server.conditions = [("Failed", "jobset failed due to one or more job failures\nmore")]
    with pytest.raises(UserError) as caught:
        run(server)
    assert str(caught.value) == (
        f"the TrainJob team/{NAME} failed: jobset failed due to one or more job failures; see: kubectl logs -n team "
        f"-l jobset.sigs.k8s.io/jobset-name={NAME} --tail=20; run the same command again to go on from the last "
        "checkpoint"
    )
    assert NAME in server.jobs


def test_a_deleted_job_is_one_line(server: KubeServer):
    server.conditions = [None]

    def vanish() -> None:
        if server.looks == 2:
            server.refusal = (404, "trainjobs not found")

    server.on_look = vanish
    with pytest.raises(UserError, match="was deleted before its end; run the same command again"):
        run(server)


def test_a_signal_takes_the_job_away(server: KubeServer):
    server.conditions = [None]
    server.on_look = lambda: os.kill(os.getpid(), signal.SIGTERM) if server.looks == 2 else None
    with pytest.raises(Interrupted):
        run(server)
    assert server.jobs == {}


@pytest.mark.parametrize(
    ("refusal", "message"),
    [
        (
            (404, "the server could not find the requested resource"),
            "this cluster has no Kubeflow Trainer: it does not know trainjobs of trainer.kubeflow.org/v1alpha1; "
            "install release 2.0 or newer, or set machines: 1 in the platform's file",
        ),
        (
            (403, 'trainjobs is forbidden: User "x" cannot create'),
            "no right in namespace 'team' (403): trainjobs is forbidden: User \"x\" cannot create; the task's service "
            "account needs create, get and delete on trainjobs.trainer.kubeflow.org; check: kubectl auth can-i create "
            "trainjobs.trainer.kubeflow.org -n team",
        ),
        ((404, 'namespaces "team" not found'), 'the cluster refuses the TrainJob (404): namespaces "team" not found'),
    ],
)
def test_a_cluster_that_cannot_is_one_line(server: KubeServer, refusal, message):
    server.refusal = refusal
    with pytest.raises(UserError) as caught:
        run(server)
    assert str(caught.value) == message


def test_an_api_server_that_is_away_for_a_while_is_waited_for(server: KubeServer):
    server.conditions = [None, None, ("Complete", "done")]

    def go_away() -> None:
        server.on_look = lambda: None
        server.refusal = (503, "upgrading")

    class Back(list):
        def append(self, item: str) -> None:
            super().append(item)
            if len(self) == 6:
                server.refusal = None

    server.on_look, server.requests = go_away, Back()
    run(server)
    assert server.looks == 3


def test_outside_of_a_cluster_several_machines_are_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(UserError, match="this is no pod of a cluster"):
        Cluster.of_this_pod()


def test_an_api_server_that_is_not_there_is_one_line(server: KubeServer):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        server.host = f"http://127.0.0.1:{probe.getsockname()[1]}"
    with pytest.raises(UserError, match="API server does not answer"):
        run(server)
