"""What the commands say to a KFP server, and what they make of its answers."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kfp_server_api as api
import pytest

from pipelines.command import main
from pipelines.server import HOST_VARIABLE, TOKEN_VARIABLE, connect
from sskd_core.config.assemble import assemble
from sskd_core.config.experiment import ExperimentConfig
from sskd_core.config.loading import load_experiment
from sskd_core.errors import ConfigError, UserError
from tests.kfp_server import CREATED, KfpServer, kfp_server

IMAGE = "registry.example/sskd@sha256:" + "0" * 64
BUCKET = "s3://bucket/team"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[KfpServer]:
    for name in (HOST_VARIABLE, TOKEN_VARIABLE):
        monkeypatch.delenv(name, raising=False)
    with kfp_server() as started:
        yield started
        assert started.problems == []


def experiment(**values: Any) -> ExperimentConfig:
    source = {"annotations": f"{BUCKET}/l.json", "images": f"{BUCKET}/l"}
    own = {"data": {"labeled": source, "unlabeled": [f"{BUCKET}/u"]}, "storage": {"root": BUCKET}} | values
    document = load_experiment("demo").model_dump(mode="json") | own
    return assemble({"experiment": json.dumps(document)})


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "experiment.json"
    path.write_text(experiment(name="parcels", label_workers=3).model_dump_json())
    return path


def ask(*arguments: str, capsys: pytest.CaptureFixture[str]) -> Any:
    assert main(list(arguments)) == 0, capsys.readouterr().err
    return json.loads(capsys.readouterr().out)


def refusal(*arguments: str, capsys: pytest.CaptureFixture[str]) -> str:
    assert main(list(arguments)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_a_run_is_started_with_the_whole_form(server: KfpServer, file: Path, capsys):
    arguments = ["submit", "--experiment", str(file), "--image", IMAGE, "--host", server.host, "-"]
    answer = ask(*arguments[:-1], "--service-account", "runner", capsys=capsys)
    assert answer == {"run": "run-0", "name": "parcels", "page": f"{server.host}/#/runs/details/run-0"}
    run = server.runs["run-0"]
    assert assemble(run.runtime_config.parameters) == experiment(name="parcels", label_workers=3)
    assert run.runtime_config.parameters["label_workers"] == 3
    assert run.service_account == "runner"
    executors = run.pipeline_spec["pipeline_spec"]["deploymentSpec"]["executors"]
    assert {item["container"]["image"] for item in executors.values()} == {IMAGE}
    assert run.experiment_id == server.experiments["sskd"].experiment_id
    ask(*arguments[:-1], capsys=capsys)
    assert len(server.experiments) == 1


def test_a_recurring_run_never_overlaps_itself(server: KfpServer, file: Path, capsys):
    answer = ask(
        "submit", "--experiment", str(file), "--image", IMAGE, "--host", server.host, "--namespace", "team",
        "--cron", "0 0 3 * * 1", "--kfp-experiment", "nightly", capsys=capsys,
    )  # fmt: skip
    assert answer["recurring_run"] == "recurring-0"
    (made,) = server.recurring
    assert made.trigger.cron_schedule.cron == "0 0 3 * * 1"
    assert (made.max_concurrency, made.mode, made.no_catchup) == ("1", "ENABLE", True)
    assert server.experiments["nightly"].namespace == "team"


@pytest.mark.parametrize(
    ("values", "options", "message"),
    [
        ({"storage": {}}, [], "storage.root is required on a cluster"),
        ({}, ["--cron", "* * *"], "--cron '* * *': six fields"),
        (
            {"data": {"labeled": {"annotations": "/l.json", "images": "/l"}, "unlabeled": ["/u"]}},
            [],
            "/l.json is on this",
        ),
    ],
)
def test_what_cannot_run_there_is_refused_before_anything_is_sent(
    values, options, message: str, server: KfpServer, tmp_path: Path, capsys
):
    path = tmp_path / "e.json"
    path.write_text(experiment(**values).model_dump_json())
    line = refusal(
        "submit", "--experiment", str(path), "--image", IMAGE, "--host", server.host, *options, capsys=capsys
    )
    assert message in line
    assert server.requests == []


def test_an_image_by_tag_is_not_submitted(server: KfpServer, file: Path, capsys):
    line = refusal("submit", "--experiment", str(file), "--image", "x:1", "--host", server.host, capsys=capsys)
    assert "is not given by digest" in line
    assert server.requests == []


def finished_run(server: KfpServer) -> str:
    def task(name: str, state: str, pod: str | None, error: str | None = None) -> api.V2beta1PipelineTaskDetail:
        children = [api.PipelineTaskDetailChildTask(pod_name=pod)] if pod else None
        said = api.GoogleRpcStatus(code=2, message=error) if error else None
        return api.V2beta1PipelineTaskDetail(
            display_name=name, state=state, child_tasks=children, start_time=CREATED, error=said
        )

    tasks = [
        task("root", "FAILED", "pod-root"),
        task("prepare", "SUCCEEDED", "pod-prepare"),
        task("distill-driver", "SUCCEEDED", "pod-driver"),
        task("distill", "FAILED", "pod-distill", "exit code 2\nmore"),
    ]
    server.runs["abc"] = api.V2beta1Run(
        run_id="abc", display_name="parcels", state="FAILED", created_at=CREATED,
        run_details=api.V2beta1RunDetails(task_details=tasks),
        runtime_config=api.V2beta1RuntimeConfig(parameters={"seed": 3}),
    )  # fmt: skip
    server.logs = {"pod-distill": "first\nsecond\n", "pod-prepare": "fine\n"}
    return "abc"


def test_runs_are_listed_and_shown(server: KfpServer, capsys):
    run = finished_run(server)
    (first,) = ask("runs", "list", "--host", server.host, "--limit", "5", capsys=capsys)
    assert first == {
        "run": run, "name": "parcels", "state": "FAILED", "created": CREATED.isoformat(), "finished": None,
        "error": None,
    }  # fmt: skip
    found = ask("runs", "show", run, "--host", server.host, capsys=capsys)
    assert [(task["task"], task["state"], task["error"]) for task in found["tasks"]] == [
        ("prepare", "SUCCEEDED", None),
        ("distill", "FAILED", "exit code 2"),
    ]
    assert found["parameters"] == {"seed": 3}


def test_logs_are_those_of_what_failed_or_of_the_named_task(server: KfpServer, capsys):
    run = finished_run(server)
    assert main(["runs", "logs", run, "--host", server.host]) == 0
    assert capsys.readouterr().out == "==> distill (pod-distill)\nfirst\nsecond\n"
    assert main(["runs", "logs", run, "--task", "prepare", "--host", server.host]) == 0
    assert capsys.readouterr().out == "==> prepare (pod-prepare)\nfine\n"
    line = refusal("runs", "logs", run, "--task", "refine", "--host", server.host, capsys=capsys)
    assert line == f"run {run} has no task 'refine'; its tasks are: prepare, distill; name one: --task"


def test_the_token_is_sent_and_a_wrong_one_is_one_line(server: KfpServer, tmp_path: Path, capsys, monkeypatch):
    server.token = "right"
    (tmp_path / "token").write_text("right\n")
    assert ask("runs", "list", "--host", server.host, "--token-file", str(tmp_path / "token"), capsys=capsys) == []
    monkeypatch.setenv(TOKEN_VARIABLE, "wrong")
    line = refusal("runs", "list", "--host", server.host, capsys=capsys)
    assert "does not know who asks (401)" in line
    assert "wrong" not in line


def test_a_namespace_without_rights_is_one_line_with_the_command_that_checks_it(server: KfpServer, capsys):
    server.refusal = (403, "User 'jo' is not authorized\nstack")
    line = refusal("runs", "list", "--host", server.host, "--namespace", "team", capsys=capsys)
    assert line == (
        "no right in namespace 'team' (403): User 'jo' is not authorized; "
        "check: kubectl auth can-i create runs.pipelines.kubeflow.org -n team"
    )


def test_a_run_that_is_not_there_and_a_server_that_is_not_there(server: KfpServer, capsys):
    assert "(404): nothing not found" in refusal("runs", "show", "nothing", "--host", server.host, capsys=capsys)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        closed = f"http://127.0.0.1:{probe.getsockname()[1]}"
    assert f"at {closed} does not answer" in refusal("runs", "list", "--host", closed, capsys=capsys)


@pytest.mark.parametrize("host", ["http://kfp.example", "http://10.0.0.5:8888", "http://ml-pipeline.kubeflow.svc:8888"])
def test_no_token_over_an_open_line(host: str, tmp_path: Path):
    (tmp_path / "token").write_text("s3cret")
    with pytest.raises(UserError, match=r"refusing to send the token .* over plain http") as caught:
        connect(host, None, tmp_path / "token", None)
    assert "s3cret" not in str(caught.value)


def test_a_pod_s_own_token_goes_to_its_own_cluster_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "token").write_text("own")
    monkeypatch.setenv("KF_PIPELINES_SA_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.delenv(TOKEN_VARIABLE, raising=False)
    made = connect("http://ml-pipeline.kubeflow.svc.cluster.local:8888", "team", None, None)
    assert made.client.configuration.api_key == {"authorization": "own"}
    with pytest.raises(UserError, match="refusing to send the pod's token"):
        connect("http://kfp.example", "team", None, None)


def test_in_a_pod_host_namespace_and_token_are_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "token").write_text("own\n")
    (tmp_path / "namespace").write_text("team\n")
    monkeypatch.setenv("KF_PIPELINES_SA_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setattr("pipelines.server._NAMESPACE", tmp_path / "namespace")
    for name in (HOST_VARIABLE, TOKEN_VARIABLE):
        monkeypatch.delenv(name, raising=False)
    made = connect(None, None, None, None)
    assert made.host == "http://ml-pipeline.kubeflow.svc.cluster.local:8888"
    assert made.namespace == "team"
    assert made.client.configuration.get_api_key_with_prefix("authorization") == "Bearer own"
    assert connect(None, "other", None, None).namespace == "other"


@pytest.mark.parametrize(
    ("host", "message"),
    [(None, "give --host"), ("ftp://x", "write it as https://HOST"), ("https://a:b@x", "leave user and password out")],
)
def test_a_host_that_is_none(host: str | None, message: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv(HOST_VARIABLE, raising=False)
    with pytest.raises(ConfigError, match=message):
        connect(host, None, None, None)
