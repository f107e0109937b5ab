"""Values that are wrong or contradict each other end before anything is made, with the reason."""

from __future__ import annotations

from collections.abc import Callable

import pytest

TOKEN = ("tracking.secret.name=m", "tracking.secret.keys.MLFLOW_TRACKING_TOKEN=token")


@pytest.mark.parametrize(
    ("name", "settings", "reason"),
    [
        ("external", ["image="], "image is required: the image of the stages as NAME@sha256:…"),
        ("external", ["image=sskd:1"], "image: 'sskd:1' is not given by digest: a tag can move"),
        ("external", ["cpuImage=sskd:1"], "cpuImage: 'sskd:1' is not given by digest"),
        ("self-contained", ["mlflow.image=mlflow:3"], "mlflow.image: 'mlflow:3' is not given by digest"),
        ("external", ["storage.root="], "storage.root is required"),
        ("self-contained", ["storage.endpoint=https://s3.example"], "are two object stores; leave one of them out"),
        ("self-contained", ["storage.root=s3://other/x"], "is not in the bucket that SeaweedFS makes; write s3://sskd/…"),
        ("self-contained", ["seaweedfs.image="], "seaweedfs.image is required with seaweedfs.enabled"),
        ("self-contained", ["storage.secret.name="], "would let everybody in"),
        ("self-contained", ["storage.secret.keys.AWS_SECRET_ACCESS_KEY=null"], "would let everybody in"),
        ("self-contained", ["networkPolicy.enabled=false"], "seaweedfs.enabled needs networkPolicy.enabled"),
        ("locked-down", ["networkPolicy.enabled=false"], "mlflow.enabled needs networkPolicy.enabled"),
        ("self-contained", ["tracking.uri=https://m.example"], "are two MLflow servers; leave one of them out"),
        ("self-contained", ["tracking.mode=off"], "tracking.mode 'off' uses none"),
        ("external", ["tracking.mode=own", "tracking.uri="], "tracking.mode 'own' needs an MLflow server"),
        ("external", ["tracking.uri=https://a:b@m.example"], "tracking.uri holds a user or password"),
        ("external", ["tracking.secret.name=m"], "tracking.secret names 'm' and none of its keys"),
        ("external", ["tracking.uri=http://m.example", *TOKEN], "would be sent to http://m.example over plain http"),
        ("self-contained", [*TOKEN], "over plain http"),
        ("retrain", ["retrain.unlabeled=null"], "retrain.enabled needs retrain.unlabeled"),
        ("retrain", ["tracking.uri="], "retrain.enabled needs an MLflow registry"),
        ("retrain", ["tracking.mode=off"], "retrain.enabled needs an MLflow registry"),
        ("retrain", ["retrain.runner=kfp", "kfp.host="], "retrain.runner 'kfp' needs kfp.host"),
        ("external", ["cluster.nodes.distill.machines=2"], "distill.machines is 2 and distributed.enabled is false"),
        ("several-nodes", ["cache.accessMode=ReadWriteOnce"], "cache.accessMode ReadWriteOnce lets one in"),
        ("self-contained", ["mlflow.volume.existingClaim=x", "mlflow.volume.storageClass=y"], "its storage class"),
        ("locked-down", ["networkPolicy.hub=true"], "networkPolicy.hub lets stages reach any address"),
        ("locked-down", ["networkPolicy.storage.peers=null"], "networkPolicy.storage.peers: say where https://s3"),
        ("locked-down", ["networkPolicy.identity.peers=null"], "networkPolicy.identity.peers: say where"),
        ("locked-down", ["networkPolicy.kubernetes.peers=null"], "networkPolicy.kubernetes.peers: say where"),
    ],
)  # fmt: skip
def test_a_contradiction_ends_with_the_reason(name: str, settings: list[str], reason: str, refused: Callable[..., str]):
    assert reason in refused(name, *settings)


def test_several_nodes_need_kubeflow_trainer(refused: Callable[..., str]):
    said = refused("several-nodes", apis="")
    assert (
        "distributed.enabled needs Kubeflow Trainer v2, and this cluster has no trainer.kubeflow.org/v1alpha1" in said
    )
    assert "kubectl api-resources --api-group=trainer.kubeflow.org" in said


@pytest.mark.parametrize(
    ("setting", "place"),
    [
        ("imag=x", "imag"),
        ("storage.rot=s3://b/x", "rot"),
        ("storage.root=https://b/x", "/storage/root"),
        ("storage.endpoint=s3.example", "/storage/endpoint"),
        ("storage.endpoint=https://a:b@s3.example", "/storage/endpoint"),
        ("storage.secret.keys.PATH=x", "/storage/secret/keys"),
        ("tracking.mode=on", "/tracking/mode"),
        ("tracking.uri=postgres://x", "/tracking/uri"),
        ("podSecurity.runAsUser=0", "/podSecurity/runAsUser"),
        ("retrain.schedule=daily", "/retrain/schedule"),
        ("retrain.unlabeled[0]=/mnt/images", "/retrain/unlabeled/0"),
        ("retrain.runner=argo", "/retrain/runner"),
        ("retrain.set[0]=--help", "/retrain/set/0"),
        ("seaweedfs.bucket=Big", "/seaweedfs/bucket"),
        ("seaweedfs.volume.size=lots", "/seaweedfs/volume/size"),
        ("cache.accessMode=ReadOnlyMany", "/cache/accessMode"),
        ("mlflow.resources.limits.memory=null", "/mlflow/resources/limits"),
        ("networkPolicy.dns.ports[0]=0", "/networkPolicy/dns/ports/0"),
        ("networkPolicy.storage.peers[0].cidr=10.0.0.0/8", "/networkPolicy/storage/peers/0"),
        ("podDisruptionBudget.maxUnavailable=2", "/podDisruptionBudget/maxUnavailable"),
        ("cluster.gpu.gpu=1", "/cluster/gpu"),
        ("cluster.nodes.distill.retries=99", "/cluster/nodes/distill/retries"),
    ],
)
def test_the_schema_refuses_and_names_the_place(setting: str, place: str, refused: Callable[..., str]):
    said = refused("external", setting)
    assert "values don't meet the specifications of the schema" in said
    assert place in said
