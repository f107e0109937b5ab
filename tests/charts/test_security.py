"""Pod security `restricted`, and the rest of what a pod may not: field by field, for every pod of every value set."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from chart_objects import Object, Pod, of_kind, pods

from tests.charts.conftest import SETS
from tests.pipelines.test_compile import SECRET_SHAPES

# https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted
ALLOWED_VOLUMES = {
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
}


def test_the_profile_restricted_holds(rendered: list[Object]):
    assert pods(rendered)
    for pod in pods(rendered):
        assert violations(pod) == [], pod.owner


def violations(pod: Pod) -> list[str]:
    """Return what the profile forbids, and what this chart promises beyond it."""
    spec, own = pod.spec, pod.spec.get("securityContext", {})
    found = [key for key in ("hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace") if spec.get(key)]
    found += [f"volume {volume}" for volume in spec["volumes"] if not set(volume) - {"name"} <= ALLOWED_VOLUMES]
    found += [] if own.get("runAsNonRoot") is True else ["runAsNonRoot"]
    found += [] if own.get("seccompProfile") == {"type": "RuntimeDefault"} else ["seccompProfile"]
    found += ["runAsUser 0"] if own.get("runAsUser") == 0 else []
    found += [] if spec.get("automountServiceAccountToken") is False else ["automountServiceAccountToken"]
    found += [] if spec.get("enableServiceLinks") is False else ["enableServiceLinks"]
    for container in [*spec["containers"], *spec.get("initContainers", [])]:
        found += [f"{container['name']}: {problem}" for problem in container_violations(container)]
    return found


def container_violations(container: Object) -> list[str]:
    own = container.get("securityContext", {})
    wanted = {
        "allowPrivilegeEscalation": False,
        "privileged": False,
        "runAsNonRoot": True,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    found = [key for key, value in wanted.items() if own.get(key) != value]
    found += [f"hostPort {port}" for port in container.get("ports", []) if "hostPort" in port]
    for kind in ("requests", "limits"):
        found += [f"{kind}.{name}" for name in ("cpu", "memory") if name not in container["resources"].get(kind, {})]
    found += [] if "/tmp" in {mount["mountPath"] for mount in container["volumeMounts"]} else ["no scratch at /tmp"]
    return found


@pytest.mark.parametrize(
    ("path", "value", "problem"),
    [
        (["spec", "hostNetwork"], True, "hostNetwork"),
        (["spec", "securityContext", "seccompProfile"], {"type": "Unconfined"}, "seccompProfile"),
        (["spec", "containers", 0, "securityContext", "readOnlyRootFilesystem"], False, "readOnlyRootFilesystem"),
        (
            ["spec", "containers", 0, "securityContext", "capabilities"],
            {"drop": ["ALL"], "add": ["NET_ADMIN"]},
            "capab",
        ),
        (["spec", "volumes", 0], {"name": "x", "hostPath": {"path": "/"}}, "volume"),
    ],
)
def test_the_check_sees_a_violation(path: list[Any], value: Any, problem: str, objects: dict[str, list[Object]]):
    pod = copy.deepcopy(pods(objects["self-contained"])[0])
    target: Any = {"spec": pod.spec}
    for key in path[:-1]:
        target = target[key]
    target[path[-1]] = value
    (found,) = violations(pod)
    assert problem in found


def test_no_secret_is_made_and_none_is_quoted(texts: dict[str, str], objects: dict[str, list[Object]]):
    for name in SETS:
        assert of_kind(objects[name], "Secret") == []
        for shape in SECRET_SHAPES:
            assert shape.search(texts[name]) is None, (name, shape.pattern)
        for pod in pods(objects[name]):
            for container in pod.spec["containers"]:
                for variable in container.get("env", []):
                    sensitive = any(word in variable["name"] for word in ("SECRET", "KEY", "TOKEN", "PASSWORD", "USER"))
                    assert set(variable) == ({"name", "valueFrom"} if sensitive else {"name", "value"}), variable
                    if sensitive:
                        assert set(variable["valueFrom"]) == {"secretKeyRef"}


def test_rights_are_the_few_that_are_named(objects: dict[str, list[Object]]):
    run = [
        ({""}, {"configmaps"}, {"get"}, {"kfp-launcher"}),
        ({""}, {"secrets"}, {"get"}, {"mlpipeline-minio-artifact"}),
        ({"argoproj.io"}, {"workflowtaskresults"}, {"create", "patch"}, set()),
        ({"argoproj.io"}, {"workflowtasksets"}, {"list", "watch"}, set()),
        ({"argoproj.io"}, {"workflowtasksets/status"}, {"patch"}, set()),
    ]
    jobs = ({"trainer.kubeflow.org"}, {"trainjobs"}, {"create", "get", "delete"}, set())
    submit = [
        ({"pipelines.kubeflow.org"}, {"experiments"}, {"list", "get", "create"}, set()),
        ({"pipelines.kubeflow.org"}, {"runs"}, {"create"}, set()),
    ]
    assert rights(objects["external"]) == {"sskd-runs": run}
    assert rights(objects["retrain"]) == {"sskd-runs": run}
    assert rights(objects["several-nodes"]) == {"sskd-runs": [*run, jobs]}
    own = [run[0], ({""}, {"secrets"}, {"get"}, {"kfp-artifacts"}), *run[2:], jobs]
    assert rights(objects["locked-down"]) == {"sskd-runs": own, "sskd-submit": submit}


def rights(objects: list[Object]) -> dict[str, list[Any]]:
    keys = ("apiGroups", "resources", "verbs", "resourceNames")
    roles = of_kind(objects, "Role")
    bindings = {item["roleRef"]["name"]: item for item in of_kind(objects, "RoleBinding")}
    assert set(bindings) == {role["metadata"]["name"] for role in roles}
    for binding in bindings.values():
        (subject,) = binding["subjects"]
        assert subject["kind"] == "ServiceAccount"
    return {
        role["metadata"]["name"]: [tuple(set(rule.get(key, [])) for key in keys) for rule in role["rules"]]
        for role in roles
    }


def test_budgets_select_the_chart_s_own_services(objects: dict[str, list[Object]]):
    budgets = of_kind(objects["self-contained"], "PodDisruptionBudget")
    assert {item["spec"]["selector"]["matchLabels"]["app.kubernetes.io/component"] for item in budgets} == {
        "mlflow",
        "seaweedfs",
    }
    assert {item["spec"]["maxUnavailable"] for item in budgets} == {0}
    (budget,) = of_kind(objects["locked-down"], "PodDisruptionBudget")
    assert budget["spec"]["maxUnavailable"] == 1


def test_the_platform_s_uid_is_left_to_it(objects: dict[str, list[Object]]):
    for pod in pods(objects["locked-down"]):
        assert not {"runAsUser", "runAsGroup", "fsGroup"} & set(pod.spec["securityContext"]), pod.owner
    for pod in pods(objects["self-contained"]):
        own = pod.spec["securityContext"]
        assert (own["runAsUser"], own["fsGroup"]) == (65532, 65532), pod.owner
