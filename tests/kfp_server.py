"""A KFP server on loopback, as far as the commands use one.

Every request is checked: path, query, token, and a body that is read back into the generated client's own model, with
unknown fields refused. Answers are those models, as the server writes them.
"""

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, urlsplit

import kfp_server_api as api
from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2

from tests.loopback import serving

CREATED = dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC)
_API = "/apis/v2beta1"
_ALLOWED_QUERY = {"filter", "page_size", "namespace", "sort_by", "experiment_id"}


class KfpServer:
    """What the server holds, and what it was asked.

    Attributes:
        requests: method and path of each.
        problems: what was wrong with a request, for the test to look at.
        token: that a request must carry; None for a server that asks nobody.
        refusal: status and message that every request is answered with; None for none.
        experiments: by name.
        runs: by id.
        recurring: in the order of creation.
        logs: by pod.
    """

    def __init__(self) -> None:
        self.requests: list[str] = []
        self.problems: list[str] = []
        self.token: str | None = None
        self.refusal: tuple[int, str] | None = None
        self.experiments: dict[str, api.V2beta1Experiment] = {}
        self.runs: dict[str, api.V2beta1Run] = {}
        self.recurring: list[api.V2beta1RecurringRun] = []
        self.logs: dict[str, str] = {}
        self.host = ""

    def answer(self, method: str, target: str, headers: Any, body: bytes) -> tuple[int, Any]:
        """Return status and document, or text, of one request."""
        parts = urlsplit(target)
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        self.requests.append(f"{method} {parts.path}")
        self.problems += [f"{target}: unknown query '{key}'" for key in query.keys() - _ALLOWED_QUERY]
        if self.refusal is not None:
            return self.refusal[0], {"code": 7, "message": self.refusal[1]}
        if self.token is not None and headers.get("authorization") != f"Bearer {self.token}":
            return 401, {"code": 16, "message": "no such token"}
        match method, parts.path:
            case "GET", path if path == f"{_API}/experiments":
                (predicate,) = json.loads(query["filter"])["predicates"]
                if (predicate["operation"], predicate["key"]) != ("EQUALS", "display_name"):
                    self.problems.append(f"a filter that the server would refuse: {predicate}")
                found = self.experiments.get(predicate["stringValue"])
                return 200, api.V2beta1ListExperimentsResponse(experiments=[found] if found else None)
            case "POST", path if path == f"{_API}/experiments":
                group = self._read(body, api.V2beta1Experiment)
                group.experiment_id = f"group-{len(self.experiments)}"
                self.experiments[group.display_name] = group
                return 200, group
            case "POST", path if path == f"{_API}/runs":
                run = self._read(body, api.V2beta1Run)
                self._check_job(run)
                run.run_id, run.state, run.created_at = f"run-{len(self.runs)}", "PENDING", CREATED
                self.runs[run.run_id] = run
                return 200, run
            case "POST", path if path == f"{_API}/recurringruns":
                recurring = self._read(body, api.V2beta1RecurringRun)
                self._check_job(recurring)
                recurring.recurring_run_id = f"recurring-{len(self.recurring)}"
                self.recurring.append(recurring)
                return 200, recurring
            case "GET", path if path == f"{_API}/runs":
                newest = list(self.runs.values())[: int(query["page_size"])]
                return 200, api.V2beta1ListRunsResponse(runs=newest, total_size=len(self.runs))
        return self._one(method, parts.path)

    def _one(self, method: str, path: str) -> tuple[int, Any]:
        found = re.fullmatch(rf"{_API}/runs/([^/]+)", path)
        if method == "GET" and found and found[1] in self.runs:
            return 200, self.runs[found[1]]
        log = re.fullmatch(r"/apis/v1alpha1/runs/([^/]+)/nodes/([^/]+)/log", path)
        if method == "GET" and log and log[2] in self.logs:
            return 200, self.logs[log[2]]
        if not found and not log:
            self.problems.append(f"{method} {path}: no such path")
        return 404, {"code": 5, "message": f"{path.rpartition('/')[2]} not found"}

    def _read(self, body: bytes, model: Any) -> Any:
        """Read a body into a model; a field that it does not have is a problem."""
        document = json.loads(body)
        known = set(model.attribute_map.values())
        self.problems += [f"{model.__name__} has no '{key}'" for key in document.keys() - known]
        client = api.ApiClient()
        return client._ApiClient__deserialize(document, model)

    def _check_job(self, job: Any) -> None:
        """Read the pipeline into the server's own messages, and compare the parameters with its form."""
        spec = json_format.ParseDict(job.pipeline_spec["pipeline_spec"], pipeline_spec_pb2.PipelineSpec())
        json_format.ParseDict(job.pipeline_spec["platform_spec"], pipeline_spec_pb2.PlatformSpec())
        form = spec.root.input_definitions.parameters
        given = job.runtime_config.parameters
        missing = {name for name, field in form.items() if not field.HasField("default_value")} - given.keys()
        self.problems += [f"parameter '{name}' is not of the form" for name in given.keys() - form.keys()]
        self.problems += [f"parameter '{name}' is required" for name in missing]
        if job.experiment_id not in {group.experiment_id for group in self.experiments.values()}:
            self.problems.append(f"no experiment {job.experiment_id}")


@contextmanager
def kfp_server() -> Iterator[KfpServer]:
    """Serve until the block ends."""
    state = KfpServer()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer()

        def do_POST(self) -> None:
            self._answer()

        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            status, found = state.answer(self.command, self.path, self.headers, body)
            plain = isinstance(found, str)
            data = found if plain else json.dumps(api.ApiClient().sanitize_for_serialization(found))
            self.send_response(status)
            self.send_header("content-type", "text/plain" if plain else "application/json")
            self.end_headers()
            self.wfile.write(data.encode())

        def log_message(self, *arguments: Any) -> None:
            pass

    with serving(Handler) as state.host:
        yield state
