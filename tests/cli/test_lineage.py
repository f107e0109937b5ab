"""`sskd lineage`: from a registry alias to what is behind it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from finished_pipeline import FinishedPipeline

from sskd_core.config.loading import read_mapping
from sskd_core.config.tracking import TrackingConfig
from sskd_core.storage.store import ObjectStore
from sskd_core.tracking.client import connect
from sskd_core.tracking.lineage import MANIFEST_TAG
from sskd_core.tracking.registry import Registration, ensure_registered
from tests.micro import FILE


@pytest.fixture
def experiment(store: ObjectStore, tracking: TrackingConfig, tmp_path: Path) -> str:
    """A file that names the test's store and MLflow, in which a champion is registered."""
    onnx = FinishedPipeline(store).manifests["export_onnx"]
    tags = {f"{MANIFEST_TAG}onnx": f"{onnx.uri} {onnx.digest}"}
    wanted = Registration(tracking.registered_model, f"{store.root}/m", None, "sha256:1", tags, "champion")
    ensure_registered(connect(tracking, store.config), wanted)
    own = {"storage": store.config.model_dump(mode="json"), "tracking": tracking.model_dump(mode="json")}
    path = tmp_path / "experiment.yaml"
    path.write_text(yaml.safe_dump(read_mapping(FILE) | own))
    return str(path)


def test_the_champion_is_traced_to_its_images(sskd: Callable, experiment: str):
    answer = json.loads(sskd("lineage", "-e", experiment, "--json").out)
    assert (answer["name"], answer["alias"]) == ("sskd-student", "champion")
    assert answer["images"][0]["unlabeled"]["images"] == 60
    shown = sskd("lineage", "-e", experiment).out
    assert "sskd-student version 1 (champion)" in shown
    assert "120 in" in shown


def test_an_alias_that_nothing_has_is_one_line(sskd: Callable, experiment: str):
    done = sskd("lineage", "challenger", "-e", experiment)
    assert done.code == 2
    assert done.err.strip() == "error: no version of model 'sskd-student' has the alias 'challenger'"
