"""A Kubernetes API server on loopback, as far as trainings on several machines use one.

It knows `TrainJob` alone and reads it as strictly as the resource's own schema (Kubeflow Trainer 2.0 to 2.2,
`trainer.kubeflow.org/v1alpha1`): unknown fields, wrong types and names that are no DNS labels are refused.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from kubernetes import client as kubernetes
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from tests.loopback import serving

_PATH = "/apis/trainer.kubeflow.org/v1alpha1/namespaces/team/trainjobs"
Quantity = Annotated[str, Field(pattern=r"^[0-9.]+(m|Ki|Mi|Gi|Ti|K|M|G|T)?$")]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class _Metadata(_Strict):
    name: str = Field(pattern=r"^[a-z]([-a-z0-9]*[a-z0-9])?$", max_length=63)
    namespace: str | None = None
    labels: dict[str, str] = {}


class _RuntimeRef(_Strict):
    name: str = Field(min_length=1, max_length=253)
    apiGroup: str = "trainer.kubeflow.org"
    kind: str = "ClusterTrainingRuntime"


class _KeySelector(_Strict):
    name: str
    key: str
    optional: bool = False


class _Source(_Strict):
    secretKeyRef: _KeySelector | None = None
    configMapKeyRef: _KeySelector | None = None


class _Variable(_Strict):
    name: str = Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    value: str | None = None
    valueFrom: _Source | None = None


class _Resources(_Strict):
    limits: dict[str, Quantity | int]
    requests: dict[str, Quantity | int]


class _Trainer(_Strict):
    image: str = Field(max_length=500)
    command: list[str] = Field(max_length=128)
    args: list[str] = []
    env: list[_Variable] = Field([], max_length=128)
    numNodes: int
    numProcPerNode: int
    resourcesPerNode: _Resources

    @model_validator(mode="after")
    def _names_once_and_none_of_torchruns(self) -> _Trainer:
        names = [item.name for item in self.env]
        assert len(names) == len(set(names)), "env is a map by name"
        assert not [name for name in names if name.startswith("PET_")], "reserved for torchrun"
        return self


class _Spec(_Strict):
    runtimeRef: _RuntimeRef
    trainer: _Trainer


class TrainJob(_Strict):
    """The fields that a client may set."""

    apiVersion: Literal["trainer.kubeflow.org/v1alpha1"]
    kind: Literal["TrainJob"]
    metadata: _Metadata
    spec: _Spec


class KubeServer:
    """What the server holds, and what it was asked.

    Attributes:
        requests: method and path of each.
        jobs: by name, as it would answer with them.
        conditions: of a job, after so many looks at it: type and message, the last stays.
        looks: how often jobs were read.
        refusal: status and message of every answer; None for none.
        on_look: called at each look.
    """

    def __init__(self) -> None:
        self.requests: list[str] = []
        self.jobs: dict[str, dict[str, Any]] = {}
        self.conditions: list[tuple[str, str] | None] = [("Complete", "done")]
        self.looks = 0
        self.refusal: tuple[int, str] | None = None
        self.on_look: Callable[[], None] = lambda: None
        self.host = ""

    def answer(self, method: str, target: str, body: bytes) -> tuple[int, Any]:
        """Return status and document of one request."""
        path = urlsplit(target).path
        self.requests.append(f"{method} {path}")
        if self.refusal is not None:
            return self.refusal[0], _status(self.refusal[1])
        name = path.removeprefix(f"{_PATH}/")
        match method:
            case "POST" if path == _PATH:
                return self._create(body)
            case "GET" if name in self.jobs:
                self.looks += 1
                self.on_look()
                condition = self.conditions[min(self.looks, len(self.conditions)) - 1]
                if condition is not None:
                    kind, message = condition
                    said = {"type": kind, "status": "True", "reason": "X", "message": message}
                    self.jobs[name]["status"] = {"conditions": [{"type": "Suspended", "status": "False"}, said]}
                return 200, self.jobs[name]
            case "DELETE" if name in self.jobs:
                return 200, self.jobs.pop(name)
        return 404, _status("the server could not find the requested resource")

    def _create(self, body: bytes) -> tuple[int, Any]:
        try:
            job = TrainJob.model_validate_json(body)
        except ValidationError as error:
            return 422, _status(f"TrainJob is invalid: {error}")
        if job.metadata.name in self.jobs:
            return 409, _status(f'trainjobs "{job.metadata.name}" already exists')
        self.jobs[job.metadata.name] = json.loads(body)
        return 201, self.jobs[job.metadata.name]


def _status(message: str) -> dict[str, Any]:
    return {"kind": "Status", "status": "Failure", "message": message}


@contextmanager
def kube_server() -> Iterator[KubeServer]:
    """Run a server; `host` is its URL."""
    state = KubeServer()

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            status, document = state.answer(self.command, self.path, body)
            data = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_DELETE = _answer

        def log_message(self, *arguments: Any) -> None:
            pass

    with serving(Handler) as state.host:
        yield state


def client_of(server: KubeServer) -> kubernetes.ApiClient:
    """Return a client that asks once."""
    configuration = kubernetes.Configuration(host=server.host)
    configuration.retries = False
    return kubernetes.ApiClient(configuration)
