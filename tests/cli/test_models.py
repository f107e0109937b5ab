"""`sskd models`, as a person uses it: two students, one champion."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from finished_pipeline import FinishedPipeline
from promotion_fixtures import register

from sskd_core.config.loading import read_mapping
from sskd_core.config.tracking import TrackingConfig
from sskd_core.storage.store import ObjectStore
from sskd_core.tracking.client import connect
from tests.micro import FILE


@pytest.fixture
def site(store: ObjectStore, tracking: TrackingConfig, tmp_path: Path) -> tuple[str, str]:
    """A file that names the test's store and MLflow, in which two students are registered; and a policy."""
    client = connect(tracking, store.config)
    for name, refined in (("a", 50.0), ("b", 30.0)):
        register(client, store, name, refined, {"sskd.mask_ap": f"{refined:.3f}", "sskd.split": "test"})
    own = {"storage": store.config.model_dump(mode="json"), "tracking": tracking.model_dump(mode="json")}
    experiment, policy = tmp_path / "experiment.yaml", tmp_path / "policy.yaml"
    experiment.write_text(yaml.safe_dump(read_mapping(FILE) | own))
    policy.write_text("min_gain_over_supervised: -100")
    return str(experiment), str(policy)


def test_a_day_with_the_registry(sskd: Callable, site: tuple[str, str]):
    experiment, policy = site
    where = ("-e", experiment)
    listed = json.loads(sskd("models", "list", *where, "--json").out)
    assert [(row["version"], row["aliases"], row["mask_ap"]) for row in listed["versions"]] == [
        ("2", ["challenger"], 30.0),
        ("1", [], 50.0),
    ]

    promoted = json.loads(sskd("models", "promote", "1", "--policy", policy, *where, "--json").out)
    assert (promoted["status"], promoted["champion"], promoted["previous"]) == ("promoted", "1", None)

    refused = sskd("models", "promote", "--policy", policy, *where)
    assert refused.code == 2
    assert "refused: version 1 of sskd-student is champion" in refused.out
    assert "min_gain_over_champion" in refused.out

    for flags in (["--force"], ["--reason", "because"]):
        half = sskd("models", "promote", "2", *flags, *where)
        assert (half.code, half.err.strip()) == (
            2,
            "error: --force and --reason go together: a decision against the gate is recorded with its reason",
        )
    forced = sskd("models", "promote", "2", "--policy", policy, "--force", "--reason", "a new camera", *where)
    assert forced.code == 0
    assert "promoted: version 2 of sskd-student is champion, version 1 is previous" in forced.out

    shown = json.loads(sskd("models", "show", *where, "--json").out)
    assert (shown["version"], shown["verdict"]) == ("2", "forced")
    assert shown["tags"]["sskd.forced_because"] == "a new camera"
    assert shown["gate"]["passed"] is False
    assert "sskd-student version 2" in sskd("models", "show", *where).out

    apart = json.loads(sskd("models", "diff", "champion", "previous", *where, "--json").out)
    assert apart["figures"]["evaluate: refined_student/mask_ap"] == [30.0, 50.0]
    assert apart["settings"] == {}
    assert "50.0" in sskd("models", "diff", "champion", "previous", *where).out

    back = sskd("models", "rollback", "--reason", "misses triangles", *where)
    assert "rolled back: version 1 of sskd-student is champion, version 2 is previous" in back.out
    assert json.loads(sskd("models", "lineage", "1", *where, "--json").out)["aliases"] == ["champion"]


def test_what_is_wrong_is_one_line(sskd: Callable, site: tuple[str, str], tmp_path: Path):
    experiment, _ = site
    (tmp_path / "wrong.yaml").write_text("min_gain_over_champions: 1")
    wrong = sskd("models", "promote", "1", "--policy", str(tmp_path / "wrong.yaml"), "-e", experiment)
    assert wrong.code == 2
    assert "did you mean 'min_gain_over_champion'?" in wrong.err
    missing = sskd("models", "show", "9", "-e", experiment)
    assert missing.err.strip() == "error: model 'sskd-student' has no version 9; `sskd models list` shows what there is"
    nowhere = sskd("models", "rollback", "-e", experiment)
    assert nowhere.err.strip() == "error: model 'sskd-student' has no version with the alias 'previous' to go back to"


def test_a_version_that_another_tool_registered_is_listed(
    sskd: Callable, site: tuple[str, str], store: ObjectStore, tracking: TrackingConfig
):
    client = connect(tracking, store.config)
    client.create_model_version("sskd-student", "s3://elsewhere")
    rows = json.loads(sskd("models", "list", "-e", site[0], "--json").out)["versions"]
    assert (rows[0]["version"], rows[0]["verdict"], rows[0]["mask_ap"]) == ("3", "", None)
    done = sskd("models", "promote", "3", "-e", site[0])
    assert "version 3 of model 'sskd-student' was not registered by sskd" in done.err


def test_the_policy_is_that_of_the_run_that_registered_it(sskd: Callable, site: tuple[str, str], store: ObjectStore):
    """A register stage that has committed names its policy; `promote` without a file keeps to it."""
    student = FinishedPipeline(store, name="policy").manifests["refine"]
    strict = student.model_copy(
        update={"stage": "register", "config": {"gate": {"min_mask_ap": 99.0}}, "uri": f"{store.root}/a/manifest.json"}
    )
    store.put(strict.uri, strict.to_bytes())
    refused = json.loads(sskd("models", "promote", "1", "-e", site[0], "--json").out)
    floor = next(rule for rule in refused["gate"]["rules"] if rule["name"] == "min_mask_ap")
    assert floor["figures"]["limit"] == 99.0
