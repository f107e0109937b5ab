"""What must be in the cluster beforehand is looked up, and what is missing is said with the command that mends it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest
from kubernetes_server import Cluster, kubernetes_server

from tests.charts.conftest import CHART, HERE, NAMESPACE, Helm

SPACE = f"v1/namespaces/{NAMESPACE}"
KEYS = {"access-key": "eA==", "secret-key": "eQ=="}


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """A cluster with the namespace, the store's secret and a default storage class."""
    with kubernetes_server() as started:
        started.add(f"{SPACE}/configmaps/kube-root-ca.crt", data={})
        started.add(f"{SPACE}/secrets/sskd-s3", data=KEYS)
        started.add("storage.k8s.io/v1/storageclasses/standard")
        annotations = {"storageclass.kubernetes.io/is-default-class": "true"}
        started.objects["storage.k8s.io/v1/storageclasses/standard"]["metadata"]["annotations"] = annotations
        yield started


def install(helm: Helm, cluster: Cluster, name: str, *settings: str) -> subprocess.CompletedProcess[str]:
    options = [word for setting in settings for word in ("--set", setting)]
    options += ["--values", str(HERE / "values" / f"{name}.yaml"), "--namespace", NAMESPACE]
    return helm(
        "template",
        "sskd",
        str(CHART),
        *options,
        "--dry-run=server",
        "--disable-openapi-validation",
        "--kube-apiserver",
        cluster.url,
    )


def test_what_is_there_is_found(helm: Helm, cluster: Cluster):
    done = install(helm, cluster, "self-contained")
    assert done.returncode == 0, done.stderr
    assert "kind: StatefulSet" in done.stdout


def test_a_missing_secret_is_said_with_the_command_that_makes_it(helm: Helm, cluster: Cluster):
    del cluster.objects[f"{SPACE}/secrets/sskd-s3"]
    said = install(helm, cluster, "self-contained").stderr
    assert (
        "there is no secret 'sskd-s3' in namespace vision; make it: kubectl create secret generic sskd-s3 -n vision "
        "--from-literal=access-key=… --from-literal=secret-key=…"
    ) in said
    assert install(helm, cluster, "self-contained", "checks.secrets=false").returncode == 0


def test_a_secret_without_its_key_is_said_without_its_content(helm: Helm, cluster: Cluster):
    cluster.add(f"{SPACE}/secrets/sskd-s3", data={"access-key": "c2VjcmV0"})
    said = install(helm, cluster, "self-contained").stderr
    assert "secret 'sskd-s3' in namespace vision has no key 'secret-key'" in said
    assert "c2VjcmV0" not in said


def test_a_missing_pull_secret_and_a_missing_claim(helm: Helm, cluster: Cluster):
    said = install(helm, cluster, "external", "imagePullSecrets[0]=registry").stderr
    assert "there is no secret 'registry' in namespace vision, which imagePullSecrets names" in said
    said = install(helm, cluster, "self-contained", "mlflow.volume.existingClaim=old").stderr
    assert "mlflow.volume.existingClaim: there is no volume claim 'old' in namespace vision" in said


def test_storage_classes(helm: Helm, cluster: Cluster):
    said = install(helm, cluster, "self-contained", "seaweedfs.volume.storageClass=fast").stderr
    assert "seaweedfs.volume.storageClass: this cluster has no storage class 'fast'" in said
    del cluster.objects["storage.k8s.io/v1/storageclasses/standard"]
    cluster.add("storage.k8s.io/v1/storageclasses/fast")
    assert "this cluster has no default storage class; name one of" in install(helm, cluster, "self-contained").stderr
    named = ("seaweedfs.volume.storageClass=fast", "mlflow.volume.storageClass=fast")
    assert install(helm, cluster, "self-contained", *named).returncode == 0
    assert install(helm, cluster, "self-contained", "checks.storageClasses=false").returncode == 0


def test_a_cluster_without_trainer_is_seen(helm: Helm, cluster: Cluster):
    assert "this cluster has no trainer.kubeflow.org/v1alpha1" in install(helm, cluster, "several-nodes").stderr
