"""`sskd retrain`: what it refuses before it looks at anything. What it does is the story in tests/e2e."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from sskd_core.config.loading import read_mapping
from sskd_core.config.tracking import TrackingConfig
from sskd_core.storage.store import ObjectStore
from tests.micro import FILE


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--watch", "--dry-run"], "--watch runs and --dry-run does not; give one of them"),
        (
            ["--labeled", "labels.json"],
            "labels.json: write it as FILE=IMAGES, for instance labels/new.json=labels/images",
        ),
        (["--test", "=images"], "=images: write it as FILE=IMAGES, for instance labels/new.json=labels/images"),
        (
            ["--watch", "--submit"],
            "--watch runs here and --submit elsewhere; give one of them: --submit is for a schedule",
        ),
    ],
)
def test_options_that_contradict_each_other_are_one_line(sskd: Callable, options: list[str], message: str):
    done = sskd("retrain", "--unlabeled", "somewhere", *options)
    assert (done.code, done.err.strip()) == (2, f"error: {message}")


@pytest.mark.parametrize(
    ("values", "options", "message"),
    [
        ({}, ["--labeled", "s3://bucket/l.json=images"], "images is on this machine"),
        ({"storage": {}}, [], "storage.root is required, the cluster's store"),
        ({"tracking": {}}, [], "tracking.uri or MLFLOW_TRACKING_URI is required, the cluster's registry"),
    ],
)
def test_what_a_cluster_cannot_reach_is_refused_before_anything_is_read(
    values: dict[str, Any],
    options: list[str],
    message: str,
    sskd: Callable,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    own = {"storage": {"root": "s3://bucket/x"}, "tracking": {"uri": "https://mlflow.example"}} | values
    experiment = tmp_path / "experiment.yaml"
    experiment.write_text(yaml.safe_dump(read_mapping(FILE) | own))
    done = sskd("retrain", "--submit", "--unlabeled", "s3://bucket/new", "-e", str(experiment), *options)
    assert done.code == 2
    assert message in done.err
    assert len(done.err.strip().splitlines()) == 1


def test_there_must_be_a_champion(sskd: Callable, store: ObjectStore, tracking: TrackingConfig, tmp_path: Path):
    own = {"storage": store.config.model_dump(mode="json"), "tracking": tracking.model_dump(mode="json")}
    experiment = tmp_path / "experiment.yaml"
    experiment.write_text(yaml.safe_dump(read_mapping(FILE) | own))
    done = sskd("retrain", "--unlabeled", str(tmp_path), "-e", str(experiment), "--dry-run")
    assert done.code == 2
    assert "model 'sskd-student' has no version with the alias 'champion'" in done.err
