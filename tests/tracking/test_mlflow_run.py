from __future__ import annotations

import json
import logging

import pytest
from mlflow.exceptions import MlflowException, RestException

from sskd_core.tracking.mlflow_run import MlflowRun, is_refusal


@pytest.fixture
def run(client) -> MlflowRun:
    return MlflowRun(client, client.create_run("0").info.run_id, owned=True)


class Flaky:
    """A client whose server can go away."""

    def __init__(self, client) -> None:
        self._client, self.away = client, False

    def __getattr__(self, name: str):
        def call(*args, **values):
            if self.away:
                raise MlflowException("API request failed with exception: connection refused")
            return getattr(self._client, name)(*args, **values)

        return call


def test_parameters_are_written_once(client, run: MlflowRun):
    run.log_params({"iterations": 4, "weights": None, "long": "x" * 10_000})
    run.log_params({"iterations": 5, "seed": 0})
    params = client.get_run(run.run_id).data.params
    assert params["iterations"] == "4"
    assert params["seed"] == "0"
    assert params["weights"] == "None"
    assert set(params["long"]) == {"x"}


def test_more_parameters_than_a_request_takes(client, run: MlflowRun):
    run.log_params({f"key.{number}": number for number in range(250)})
    assert len(client.get_run(run.run_id).data.params) == 250


def test_curves_arrive_with_their_steps(client, run: MlflowRun):
    for step in range(1, 31):
        run.log_metrics({"loss/total": 1.0 / step, "loss/nan": float("nan")}, step=step)
    run.close("FINISHED")
    points = client.get_metric_history(run.run_id, "loss/total")
    assert [(point.step, point.value) for point in points] == [(step, 1.0 / step) for step in range(1, 31)]
    assert client.get_metric_history(run.run_id, "loss/nan") == []


def test_points_are_written_in_batches(client, run: MlflowRun, monkeypatch: pytest.MonkeyPatch):
    calls = []
    write = client.log_batch
    monkeypatch.setattr(client, "log_batch", lambda *args, **values: calls.append(values) or write(*args, **values))
    for step in range(2500):
        run.log_metrics({"loss": 0.5}, step=step)
    run.close("FINISHED")
    assert [len(call["metrics"]) for call in calls] == [1000, 1000, 500]


def test_inputs_name_the_manifest(client, run: MlflowRun):
    digest = "sha256:" + "ab" * 32
    run.log_input("data", "s3://bucket/manifest.json", digest, "distill")
    found = client.get_run(run.run_id).inputs.dataset_inputs
    assert [(item.dataset.name, item.tags[0].value) for item in found] == [("data", "distill")]
    assert json.loads(found[0].dataset.source) == {"uri": "s3://bucket/manifest.json", "digest": digest}
    assert digest.removeprefix("sha256:").startswith(found[0].dataset.digest)


@pytest.mark.parametrize("status", ["FINISHED", "FAILED", "KILLED"])
def test_the_run_ends_and_the_parent_fails_with_it(client, status: str):
    parent, own = (client.create_run("0").info.run_id for _ in range(2))
    MlflowRun(client, own, owned=True, parent=parent).close(status)
    assert client.get_run(own).info.status == status
    assert client.get_run(parent).info.status == ("RUNNING" if status == "FINISHED" else status)


def test_a_run_of_the_platform_stays_open_and_names_carry_the_node(client):
    run = MlflowRun(client, client.create_run("0").info.run_id, owned=False, node="distill")
    run.log_params({"train.iterations": 4})
    run.log_metrics({"loss/total": 1.0}, step=1)
    run.set_tags({"sskd.stage": "distill"})
    run.close("FINISHED")
    found = client.get_run(run.run_id)
    assert found.info.status == "RUNNING"
    assert found.data.params == {"distill.train.iterations": "4"}
    assert found.data.metrics == {"distill/loss/total": 1.0}
    assert found.data.tags["sskd.distill.stage"] == "distill"


def test_a_server_that_comes_back_gets_everything(client, run: MlflowRun, caplog: pytest.LogCaptureFixture):
    flaky = Flaky(client)
    run = MlflowRun(flaky, run.run_id, owned=True)
    flaky.away = True
    with caplog.at_level(logging.WARNING):
        run.set_tags({"sskd.stage": "distill"})
        run.log_params({"iterations": 4})
        for step in range(1500):
            run.log_metrics({"loss": 0.5}, step=step)
    assert caplog.text.count("does not answer") == 1
    flaky.away = False
    run.close("FINISHED")
    found = client.get_run(run.run_id)
    assert found.info.status == "FINISHED"
    assert found.data.params == {"iterations": "4"}
    assert found.data.tags["sskd.stage"] == "distill"
    assert len(client.get_metric_history(run.run_id, "loss")) == 1500


def test_a_server_that_stays_away_costs_no_more_than_a_warning(
    client, run: MlflowRun, caplog: pytest.LogCaptureFixture
):
    flaky = Flaky(client)
    run = MlflowRun(flaky, run.run_id, owned=True)
    flaky.away = True
    with caplog.at_level(logging.WARNING):
        run.log_metrics({"loss": 0.5}, step=1)
        run.close("FINISHED")
    assert "closed while the server is away; its last records are lost" in caplog.text


def test_what_mlflow_refuses_does_not_hold_up_the_rest(client, run: MlflowRun):
    run.log_params({"not:allowed?": 1})
    run.log_params({"allowed": 1})
    assert client.get_run(run.run_id).data.params == {"allowed": "1"}


@pytest.mark.parametrize(
    ("error", "refused"),
    [
        (RestException({"error_code": "INVALID_PARAMETER_VALUE", "message": "no"}), True),
        (RestException({"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "no"}), True),
        (RestException({"error_code": "RESOURCE_EXHAUSTED", "message": "slow down"}), False),
        (RestException({"error_code": "TEMPORARILY_UNAVAILABLE", "message": "locked"}), False),
        (MlflowException("API request failed"), False),
        (ConnectionError("reset"), False),
    ],
)
def test_refusals_are_told_from_faults(error: Exception, refused: bool):
    assert is_refusal(error) is refused
