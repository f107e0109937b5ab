"""The guided pipeline: all nodes in this process, and once as a user runs it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from in_process import run_pipeline

from sskd_core.config.loading import read_mapping
from sskd_core.config.storage import StorageConfig
from sskd_core.config.tracking import TrackingConfig
from sskd_core.reporting.html import render_report
from sskd_core.reporting.results import gather
from sskd_core.stages.finished import finished_nodes
from sskd_core.storage.store import ObjectStore
from sskd_core.tracking.client import connect
from tests.micro import GUIDED_FILE, micro_data, micro_experiment


def test_every_node_runs_and_the_student_is_registered(store: ObjectStore, tracking: TrackingConfig):
    experiment = micro_experiment(
        store.config, micro_data(store), GUIDED_FILE, tracking={**tracking.model_dump(), "mode": "own"}
    )
    done = run_pipeline(experiment)
    assert list(done) == [node.name for node in experiment.nodes]
    student = done["distill"]
    assert student.inputs["teacher"].digest == done["adapt_teacher"].digest
    assert student.facts["switched_at"] == 3
    assert set(done["evaluate"].facts["models"]) == {"supervised_student", "distilled_student"}
    gate = {rule["name"]: rule["verdict"] for rule in done["register"].facts["verdict"]["rules"]}
    assert gate["comparable"] == gate["min_gain_over_supervised"] == "passed"
    metrics = done["evaluate"].metrics
    assert done["register"].metrics["mask_ap"] == metrics["distilled_student/mask_ap"]
    assert done["register"].metrics["gain_over_supervised"] == pytest.approx(
        metrics["distilled_student/mask_ap"] - metrics["supervised_student/mask_ap"]
    )
    client = connect(experiment.tracking, store.config)
    version = client.get_model_version_by_alias(experiment.tracking.registered_model, "champion")
    assert str(version.version) == done["register"].facts["version"]
    # What an orchestrator's last task sees of it.
    assert finished_nodes(experiment, store) == done
    results = gather(experiment, done, store.read)
    assert (results.missing, results.delivered) == ([], "distilled_student")
    page = render_report(experiment, results, done, store.read)
    assert "distilled student" in page
    assert "refined student" not in page
    assert "loss/semi_mask" in json.loads(store.read(student.output("curves")))["series"]


@pytest.mark.slow
def test_a_user_runs_it_and_runs_it_again(s3_endpoint: StorageConfig, tmp_path: Path):
    store = ObjectStore(s3_endpoint.model_copy(update={"root": f"{s3_endpoint.root}/guided-e2e"}))
    data = micro_data(store)
    values = read_mapping(GUIDED_FILE) | {"data": data.model_dump(mode="json", exclude_none=True)}
    values["storage"] = {
        "root": store.root,
        "endpoint_url": s3_endpoint.endpoint_url,
        "addressing_style": "path",
    }
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")

    def run() -> dict[str, object]:
        command = [str(Path(sys.executable).parent / "sskd"), "run", "mine.yaml", "--json", "--state-dir", "state"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    first = run()
    assert set(first["models"]) == {"supervised_student", "distilled_student"}
    assert first["missing"] == []
    assert run()["stages"] == first["stages"]
