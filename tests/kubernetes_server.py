"""A Kubernetes API server on loopback, as far as a chart's `lookup` uses one: discovery, and reading of objects."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from typing import Any

from tests.loopback import serving

RESOURCES = {
    "v1": {
        "secrets": "Secret",
        "configmaps": "ConfigMap",
        "persistentvolumeclaims": "PersistentVolumeClaim",
        "serviceaccounts": "ServiceAccount",
        "services": "Service",
    },
    "apps/v1": {"deployments": "Deployment", "statefulsets": "StatefulSet"},
    "batch/v1": {"cronjobs": "CronJob", "jobs": "Job"},
    "networking.k8s.io/v1": {"networkpolicies": "NetworkPolicy"},
    "policy/v1": {"poddisruptionbudgets": "PodDisruptionBudget"},
    "rbac.authorization.k8s.io/v1": {"roles": "Role", "rolebindings": "RoleBinding"},
    "storage.k8s.io/v1": {"storageclasses": "StorageClass"},
}


class Cluster:
    """What the server holds.

    Attributes:
        objects: path below the API's root -> object, e.g. `v1/namespaces/a/secrets/b`.
        url: of the server.
    """

    def __init__(self) -> None:
        self.objects: dict[str, dict[str, Any]] = {}
        self.url = ""

    def add(self, path: str, **content: Any) -> None:
        """Add an object; its name is the last part of the path."""
        self.objects[path] = {"metadata": {"name": path.rpartition("/")[2]}, **content}

    def answer(self, path: str) -> tuple[int, dict[str, Any]]:
        """Return status and document of a GET."""
        match path.strip("/"):
            case "version":
                return 200, {"major": "1", "minor": "35", "gitVersion": "v1.35.0"}
            case "api":
                return 200, {"kind": "APIVersions", "versions": ["v1"]}
            case "apis":
                return 200, {"kind": "APIGroupList", "apiVersion": "v1", "groups": _groups()}
        below = path.strip("/").partition("/")[2]
        if below in RESOURCES:
            return 200, {"kind": "APIResourceList", "groupVersion": below, "resources": _resources(below)}
        if below in self.objects:
            return 200, self._object(below)
        if below.rpartition("/")[2] == "storageclasses":
            items = [self._object(key) for key in self.objects if key.startswith(f"{below}/")]
            return 200, {"kind": "StorageClassList", "apiVersion": "storage.k8s.io/v1", "metadata": {}, "items": items}
        return 404, {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404}

    def _object(self, path: str) -> dict[str, Any]:
        version = next(item for item in RESOURCES if path.startswith(f"{item}/"))
        return {"apiVersion": version, "kind": RESOURCES[version][path.split("/")[-2]], **self.objects[path]}


def _groups() -> list[dict[str, Any]]:
    served = {
        name.partition("/")[0]: {"groupVersion": name, "version": name.partition("/")[2]}
        for name in RESOURCES
        if "/" in name
    }
    return [{"name": name, "versions": [one], "preferredVersion": one} for name, one in served.items()]


def _resources(version: str) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "singularName": "",
            "namespaced": name != "storageclasses",
            "kind": kind,
            "verbs": ["get", "list"],
        }
        for name, kind in RESOURCES[version].items()
    ]


@contextmanager
def kubernetes_server() -> Iterator[Cluster]:
    """Serve until the block ends."""
    cluster = Cluster()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, document = cluster.answer(self.path.partition("?")[0])
            body = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: Any) -> None:
            """Print nothing."""

    with serving(Handler) as cluster.url:
        yield cluster
