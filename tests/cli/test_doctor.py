"""`sskd doctor`: each thing that a run stands on is used once, and named."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from sskd_core.config.storage import CACHE_VARIABLE
from sskd_core.storage.store import ObjectStore


def test_everything_is_named_also_a_volume_that_the_platform_mounts(
    sskd: Callable, store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    volume = tmp_path / "volume"
    monkeypatch.setenv(CACHE_VARIABLE, str(volume))
    experiment = tmp_path / "experiment.yaml"
    own = {"preset": "demo", "storage": store.config.model_dump(mode="json"), "tracking": {"mode": "off"}}
    experiment.write_text(yaml.safe_dump(own))
    done = sskd("doctor", "-e", str(experiment), "--state-dir", str(tmp_path / "state"), "--json")
    checks = {check["name"]: check for check in json.loads(done.out)["checks"]}
    assert {f"disk of {volume}", f"disk of {tmp_path / 'state'}", "storage put", "tracking"} <= checks.keys()
    assert checks["tracking"]["detail"] == "off"
    assert done.code == (0 if all(check["ok"] for check in checks.values()) else 2)
