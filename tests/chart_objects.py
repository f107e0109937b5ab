"""Looking through rendered Kubernetes objects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

Object = dict[str, Any]


@dataclass(frozen=True)
class Pod:
    """What some object makes pods of.

    Attributes:
        owner: kind and name of that object.
        labels: of the pods.
        spec: of the pods.
    """

    owner: str
    labels: dict[str, str]
    spec: Object

    @property
    def component(self) -> str:
        """Which kind of pod it is to the network policies."""
        return self.labels["app.kubernetes.io/component"]


def of_kind(objects: list[Object], kind: str) -> list[Object]:
    """Return the objects of a kind."""
    return [item for item in objects if item["kind"] == kind]


def named(objects: list[Object], kind: str, name: str) -> Object:
    """Return the one object of a kind and name."""
    (found,) = [item for item in of_kind(objects, kind) if item["metadata"]["name"] == name]
    return found


def pods(objects: list[Object]) -> list[Pod]:
    """Return the pods that the objects would make."""
    return [
        Pod(f"{item['kind']}/{item['metadata']['name']}", template["metadata"]["labels"], template["spec"])
        for item in objects
        for template in _templates(item)
    ]


def _templates(item: Object) -> list[Object]:
    spec = item.get("spec", {})
    match item["kind"]:
        case "Deployment" | "StatefulSet" | "Job":
            return [spec["template"]]
        case "CronJob":
            return [spec["jobTemplate"]["spec"]["template"]]
        case "TrainingRuntime":
            return [job["template"]["spec"]["template"] for job in spec["template"]["spec"]["replicatedJobs"]]
        case "Pod" | "DaemonSet" | "ReplicaSet":
            raise AssertionError(f"the tests look into no {item['kind']}")
        case _:
            return []


def selects(selector: Object, labels: dict[str, str]) -> bool:
    """Return whether a label selector of equalities takes a pod."""
    assert set(selector) <= {"matchLabels"}, selector
    return selector.get("matchLabels", {}).items() <= labels.items()
