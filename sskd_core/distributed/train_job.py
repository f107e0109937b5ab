"""A training on several machines: a `TrainJob` of Kubeflow Trainer, made, watched and taken away again.

Kubeflow Trainer starts a pod on each machine and gives it the variables from which `torchrun` knows the others. The
task that makes the job needs no GPU; it waits, and when it is told to stop it takes the job away, whose processes then
save their state.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import urllib3.exceptions
from kubernetes import client as kubernetes
from kubernetes.config import ConfigException, load_incluster_config

from sskd_core.config.train_job import TrainJobConfig
from sskd_core.distributed.launch import TASK_VARIABLE
from sskd_core.errors import UserError
from sskd_core.interrupt import StopSignal

GROUP, VERSION, PLURAL = "trainer.kubeflow.org", "v1alpha1", "trainjobs"
POLL_SECONDS = 10.0
_PATIENCE = 60
"""Questions in a row that the API server may leave unanswered: ten minutes."""
_PASSED_ON = ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID")
_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
_TIMEOUT_SECONDS = (10.0, 60.0)
_NO_ANSWER = 0
Note = Callable[[str], None]


def train_job(
    config: TrainJobConfig, name: str, module: str, task: str, environment: Mapping[str, str] = os.environ
) -> dict[str, Any]:
    """Return the object.

    Args:
        config: the machines.
        name: of the job, a DNS label.
        module: what every process runs.
        task: for `SSKD_TASK`.
        environment: of this task, of which the platform's MLflow run is passed on.
    """
    limits: dict[str, Any] = {"cpu": config.cpu, "memory": config.memory}
    if config.gpus:
        limits[config.gpu_type] = config.gpus
    sources = [("secretKeyRef", config.secrets), ("configMapKeyRef", config.config_maps)]
    referred = [
        {"name": variable, "valueFrom": {kind: {"name": source, "key": key, "optional": True}}}
        for kind, named in sources
        for source, keys in named.items()
        for key, variable in keys.items()
    ]
    taken = {TASK_VARIABLE, *(item["name"] for item in referred)}
    passed_on = [
        {"name": key, "value": environment[key]} for key in _PASSED_ON if environment.get(key) and key not in taken
    ]
    return {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": "TrainJob",
        "metadata": {"name": name, "labels": {"app.kubernetes.io/part-of": "sskd"}},
        "spec": {
            "runtimeRef": {"apiGroup": GROUP, "kind": config.runtime_kind, "name": config.runtime},
            "trainer": {
                "image": config.image,
                "command": ["python3", "-m", "torch.distributed.run", "-m", module],
                "numNodes": config.machines,
                "numProcPerNode": max(1, config.gpus),
                "resourcesPerNode": {"limits": limits, "requests": limits},
                "env": [{"name": TASK_VARIABLE, "value": task}, *passed_on, *referred],
            },
        },
    }


@dataclass(frozen=True)
class Cluster:
    """A Kubernetes API server and a namespace in it."""

    client: kubernetes.ApiClient
    namespace: str

    @classmethod
    def of_this_pod(cls) -> Cluster:
        """Return the cluster that this process runs in.

        Raises:
            UserError: it runs in none.
        """
        configuration = kubernetes.Configuration()
        try:
            load_incluster_config(client_configuration=configuration)
        except ConfigException:
            raise UserError(
                "several machines are asked for, and this is no pod of a cluster; run the pipeline there, or set "
                "machines: 1 in the platform's file"
            ) from None
        return cls(kubernetes.ApiClient(configuration), _NAMESPACE.read_text(encoding="utf-8").strip())


class Jobs:
    """The jobs of a namespace.

    Args:
        cluster: where.
        poll_seconds: time between two looks at a job.
    """

    def __init__(self, cluster: Cluster, poll_seconds: float = POLL_SECONDS) -> None:
        self._api = kubernetes.CustomObjectsApi(cluster.client)
        self._where = {"group": GROUP, "version": VERSION, "namespace": cluster.namespace, "plural": PLURAL}
        self._namespace, self._poll = cluster.namespace, poll_seconds

    def run(self, job: dict[str, Any], note: Note) -> None:
        """Make a job and wait for its end. One of the same name that still runs is waited for instead.

        Args:
            job: see `train_job`.
            note: is told what happens.

        Raises:
            UserError: the cluster has no Kubeflow Trainer or refuses the job, or the job failed; one line.
            Interrupted: SIGTERM arrived; the job is taken away, its state is saved.
        """
        name = str(job["metadata"]["name"])
        with StopSignal() as stop:
            try:
                self._make(job, note, stop)
                self._wait_for_end(name, stop)
            except BaseException:
                if stop.is_set:
                    self._delete(name)
                raise
            self._delete(name)

    def _make(self, job: dict[str, Any], note: Note, stop: StopSignal) -> None:
        name = str(job["metadata"]["name"])
        while True:
            stop.check()
            try:
                self._ask(self._api.create_namespaced_custom_object, body=job)
                note(f"made the TrainJob {self._namespace}/{name} of {job['spec']['trainer']['numNodes']} machines")
                return
            except kubernetes.ApiException as error:
                if error.status != 409:
                    raise self._refusal(error) from None
            there = self._find(name, stop)
            if there is None:
                continue
            leaving = there["metadata"].get("deletionTimestamp") is not None
            if not leaving and _end(there) is None and _task(there) == _task(job):
                note(f"the TrainJob {self._namespace}/{name} runs already; waiting for it")
                return
            if not leaving:
                self._delete(name)
            time.sleep(self._poll)

    def _wait_for_end(self, name: str, stop: StopSignal) -> None:
        while True:
            job = self._find(name, stop)
            if job is None:
                raise UserError(
                    f"the TrainJob {self._namespace}/{name} was deleted before its end; run the same command again to "
                    "go on from the last checkpoint"
                )
            end = _end(job)
            if end is not None:
                kind, message = end
                if kind == "Complete":
                    return
                raise UserError(
                    f"the TrainJob {self._namespace}/{name} failed: {message}; see: kubectl logs -n {self._namespace} "
                    f"-l jobset.sigs.k8s.io/jobset-name={name} --tail=20; run the same command again to go on from the "
                    "last checkpoint"
                )
            time.sleep(self._poll)

    def _find(self, name: str, stop: StopSignal) -> dict[str, Any] | None:
        """Return a job, or None. The API server may be away for a while, such as during an upgrade."""
        for attempt in range(_PATIENCE):
            stop.check()
            try:
                found: dict[str, Any] = self._ask(self._api.get_namespaced_custom_object, name=name)
                return found
            except kubernetes.ApiException as error:
                if error.status == 404:
                    return None
                away = error.status == _NO_ANSWER or error.status >= 500
                if not away or attempt == _PATIENCE - 1:
                    raise self._refusal(error) from None
            time.sleep(self._poll)
        raise AssertionError("unreachable")

    def _delete(self, name: str) -> None:
        try:
            self._ask(self._api.delete_namespaced_custom_object, name=name, propagation_policy="Background")
        except kubernetes.ApiException as error:
            if error.status != 404:
                raise self._refusal(error) from None

    def _ask(self, question: Callable[..., Any], **values: Any) -> Any:
        try:
            return question(**self._where, **values, _request_timeout=_TIMEOUT_SECONDS)
        except (urllib3.exceptions.HTTPError, OSError) as error:
            reason = str(error).splitlines()[0].rpartition(": ")[2][:200]
            raise kubernetes.ApiException(_NO_ANSWER, reason) from None

    def _refusal(self, error: kubernetes.ApiException) -> UserError:
        said = _message(error)
        if error.status == _NO_ANSWER:
            return UserError(f"the cluster's API server does not answer: {said}")
        if error.status == 403:
            return UserError(
                f"no right in namespace '{self._namespace}' (403): {said}; the task's service account needs create, "
                f"get and delete on {PLURAL}.{GROUP}; check: kubectl auth can-i create {PLURAL}.{GROUP} "
                f"-n {self._namespace}"
            )
        if error.status == 404 and "namespaces" not in said:
            return UserError(
                f"this cluster has no Kubeflow Trainer: it does not know {PLURAL} of {GROUP}/{VERSION}; install "
                "release 2.0 or newer, or set machines: 1 in the platform's file"
            )
        return UserError(f"the cluster refuses the TrainJob ({error.status}): {said}")


def _end(job: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return `Complete` or `Failed`, and why, of a job that has ended."""
    for condition in job.get("status", {}).get("conditions", []):
        if condition.get("type") in ("Complete", "Failed") and condition.get("status") == "True":
            why = condition.get("message") or condition.get("reason") or "no reason given"
            return condition["type"], str(why).splitlines()[0][:300]
    return None


def _task(job: Mapping[str, Any]) -> str | None:
    variables = job["spec"]["trainer"].get("env", [])
    return next((item.get("value") for item in variables if item["name"] == TASK_VARIABLE), None)


def _message(error: kubernetes.ApiException) -> str:
    try:
        text = str(json.loads(error.body)["message"])
    except (TypeError, ValueError, KeyError):
        text = str(error.reason or "no reason given")
    return (text.splitlines() or ["no reason given"])[0][:300]
