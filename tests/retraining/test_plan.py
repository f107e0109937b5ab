"""What an experiment that goes on from a champion takes over, and what it makes anew."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from typing import Any

import pytest

from sskd_core.config.base import validate
from sskd_core.config.experiment import ExperimentConfig
from sskd_core.config.gate import GateConfig
from sskd_core.config.graph import SSKD
from sskd_core.config.loading import read_mapping
from sskd_core.retraining.champion import Champion
from sskd_core.retraining.plan import Plan, continued
from sskd_core.storage.digest import digest_json
from sskd_core.storage.manifest import Manifest
from tests.micro import FILE

BASE = validate(ExperimentConfig, read_mapping(FILE), str(FILE))
KEPT = {"adapt_teacher", "pseudo_label", "self_train_teacher", "train_supervised"}


def manifest(node: str, stage: str) -> Manifest:
    config: dict[str, Any] = {}
    if stage == "pseudo_label":
        config = {"label": BASE.stages.pseudo_label.fingerprint_dict()}
    return Manifest(
        stage=stage,
        fingerprint=digest_json(node),
        config=config,
        config_digest=digest_json(config),
        code_digest=digest_json("code"),
        created=dt.datetime(2025, 1, 1, tzinfo=dt.UTC),
        uri=f"s3://bucket/{node}/manifest.json",
    )


@pytest.fixture
def champion() -> Champion:
    manifests = {item.name: manifest(item.name, item.stage) for item in SSKD}
    return Champion("sskd-student", "3", manifests, {}, GateConfig())


def going_on(champion: Champion, *overrides: str, added: dict[str, Any] | None = None) -> ExperimentConfig:
    settings = BASE.model_dump(mode="json")
    settings["data"] = {**settings["data"], "added": added}
    settings["stages"]["distill"] |= {"iterations": 100, "val_every": 40}
    return continued(champion, settings, overrides, None)


def further(experiment: ExperimentConfig) -> dict[str, set[str]]:
    assert experiment.takes_over is not None
    return {node: set(inputs) for node, inputs in experiment.takes_over.inputs.items()}


def test_a_kept_teacher_stands_and_labels_the_new_images_alone(champion: Champion):
    experiment = going_on(champion)
    assert experiment.takes_over is not None
    assert set(experiment.takes_over.results) == KEPT
    assert further(experiment) == {
        "prepare": {"earlier"},
        "relabel": {"earlier"},
        "distill": {"student"},
        "evaluate": {"champion"},
    }
    assert experiment.takes_over.inputs["distill"]["student"].digest == champion.manifests["refine"].digest


def test_changed_rules_label_all_images_anew(champion: Champion):
    stricter = going_on(champion, "stages.pseudo_label.score_threshold=0.9")
    assert "relabel" not in further(stricter)
    assert stricter.takes_over is not None
    assert set(stricter.takes_over.results) == KEPT
    adapted = going_on(champion, "stages.pseudo_label.score_threshold=0.9", "retrain.teacher=adapt")
    assert "pseudo_label" not in further(adapted)


def test_a_limit_of_health_is_no_rule(champion: Champion):
    assert further(going_on(champion, "stages.pseudo_label.max_empty_rate=0.1"))["relabel"] == {"earlier"}


def test_labels_of_an_older_release_hold_if_what_it_lacked_has_its_default(champion: Champion):
    """A release that adds a rule does not make a hundred thousand labels void."""
    old = champion.manifests["relabel"]
    rules = {key: value for key, value in old.config["label"].items() if key != "flip"}
    assert len(rules) < len(old.config["label"])
    before = {**champion.manifests, "relabel": old.model_copy(update={"config": {"label": rules}})}
    of_before = replace(champion, manifests=before)
    assert "relabel" in further(going_on(of_before))
    assert "relabel" not in further(going_on(of_before, "stages.pseudo_label.flip=true"))


def test_a_teacher_that_is_adapted_starts_from_the_champions(champion: Champion):
    experiment = going_on(champion, "retrain.teacher=adapt")
    assert experiment.takes_over is not None
    results = experiment.takes_over.results
    assert {name: item.uri for name, item in results.items()} == {
        "train_supervised": "s3://bucket/train_supervised/manifest.json",
        "adapt_teacher": "s3://bucket/self_train_teacher/manifest.json",
    }
    assert further(experiment)["self_train_teacher"] == {"student"}
    assert further(experiment)["pseudo_label"] == {"earlier"}
    assert "relabel" not in further(experiment), "its labels are of another teacher"


def test_new_annotations_train_the_baseline_anew(champion: Champion):
    source = {"annotations": "s3://bucket/a.json", "images": "s3://bucket/a"}
    experiment = going_on(champion, added={"labeled": [source]})
    assert experiment.takes_over is not None
    assert set(experiment.takes_over.results) == KEPT - {"train_supervised"}


@pytest.mark.parametrize(
    ("overrides", "iterations", "val_every"),
    [
        ([], 20, 20),
        (["retrain.iterations_share=0.5"], 50, 40),
        (["stages.distill.iterations=30"], 30, 40),
        (["retrain.student=restart"], 100, 40),
        (["retrain.iterations_share=0.001"], 1, 1),
    ],
)
def test_a_student_that_goes_on_trains_for_a_share_of_the_iterations(
    champion: Champion, overrides: list[str], iterations: int, val_every: int
):
    distill = going_on(champion, *overrides).stages.distill
    assert (distill.iterations, distill.val_every) == (iterations, val_every)


def test_a_student_that_starts_anew_does_not_read_the_champions(champion: Champion):
    assert "distill" not in further(going_on(champion, "retrain.student=restart"))


@pytest.mark.parametrize(("new", "labeled", "worth"), [(0, 0, False), (4, 0, False), (5, 0, True), (0, 1, True)])
def test_a_run_is_worth_it_for_enough_images_or_any_annotation(new: int, labeled: int, worth: bool):
    plan = Plan("3", new, 1, 2, ["a.png: cut off"], ["b.txt"], labeled, [])
    assert plan.is_worth(5) == worth
    assert plan.counts == f"{new} new images, 1 known, 2 copies, 1 unreadable, 1 not images by name"
    assert plan.skipped == ["unreadable: a.png: cut off", "no image's name: b.txt"]
