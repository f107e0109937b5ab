"""The training stages on a real data set in the real store, through the contract."""

# ruff: noqa: F811

from __future__ import annotations

import json
import os
import signal

import pytest
import torch
from engine_fixtures import INPUT
from train_fixtures import Stages, data, labels, stage_config, stages  # noqa: F401 (fixtures)

from sskd_core.config.graph import node, training_nodes
from sskd_core.errors import ConfigError, Interrupted
from sskd_core.models.build import construct
from sskd_core.models.trained import CONFIG, WEIGHTS, load_trained
from sskd_core.stages import contract, train
from sskd_core.stages.contract import find, stage_fingerprint
from sskd_core.storage.store import ObjectStore
from sskd_core.strategies.supervised import Supervised
from sskd_core.tracking.run import NullRun


@pytest.mark.parametrize(("role", "family"), [("student", "dinov2_dpt"), ("teacher", "mask2former")])
def test_the_manifest_names_a_network_that_can_be_built(role, family, stages, data):
    config = stage_config(role, family)
    manifest = stages.train(config, {"data": data})
    assert [ref.name for ref in manifest.outputs] == [CONFIG, WEIGHTS, "curves"]
    model = load_trained(manifest, stages.store)
    assert model.classes == manifest.facts["classes"] == data.facts["classes"]
    assert model.input == INPUT
    assert manifest.facts["parameters"] == sum(parameter.numel() for parameter in model.parameters())
    assert manifest.facts["role"] == role
    assert manifest.facts["iterations"] == 4
    assert manifest.facts["best_iteration"] in (2, 4)
    assert manifest.config["model"]["family"] == family
    assert set(manifest.licences) == {"Apache-2.0", *data.licences}
    curves = json.loads(stages.store.read(manifest.output("curves")))["series"]
    assert [step for step, _ in curves["val/mask_ap"]] == [2, 4]
    assert manifest.metrics == {"val_mask_ap": max(value for _, value in curves["val/mask_ap"])}


def test_nothing_but_the_result_is_left(stages, data):
    manifest = stages.train(stage_config(checkpoint_seconds=0.0), {"data": data})
    left = {item.uri for item in stages.store.list(f"{stages.store.root}/stages/distill")}
    assert left == {manifest.uri, *(ref.uri for ref in manifest.outputs)}


def test_a_second_run_returns_the_first_manifest_without_work(stages, data, monkeypatch):
    config = stage_config()
    first = stages.train(config, {"data": data})
    monkeypatch.setattr(train, "build_model", None)
    assert stages.train(config, {"data": data}) == first
    # How often it is logged changes no weights.
    calmer = config.model_copy(update={"train": config.train.model_copy(update={"log_every": 100})})
    assert stages.train(calmer, {"data": data}) == first


def test_pseudo_labels_are_learnt_from(stages, data, labels):
    config = stage_config(strategy="semi_supervised", unlabeled_batch=2)
    manifest = stages.train(config, {"data": data, "labels": labels})
    curves = json.loads(stages.store.read(manifest.output("curves")))["series"]
    assert {"loss/semi_class", "loss/semi_mask", "loss/sup_mask", "semi_to_sup_ratio"} <= curves.keys()
    assert any(value > 0 for _, value in curves["pseudo_instances_per_image"])
    assert "CC0-1.0" in manifest.licences


def test_the_contrastive_term_is_logged_with_its_diagnostics_where_it_has_a_weight(stages, data, labels):
    semi = {"strategy": "semi_supervised", "unlabeled_batch": 2}
    inputs = {"data": data, "labels": labels}
    series = []
    for weight in (0.1, 0.0):
        manifest = stages.train(stage_config(**semi, lambda_pxl=weight), inputs)
        series.append(json.loads(stages.store.read(manifest.output("curves")))["series"].keys())
    figures = {"positive", "negative", "margin", "fnr_pred", "fnr_truth", "temperature"}
    assert series[0] - series[1] == {"loss/pxl", *(f"contrast_{name}" for name in figures)}
    assert not any("contrast" in name or "pxl" in name for name in series[1])


def test_without_pseudo_labels_semi_supervision_is_refused(stages, data):
    config = stage_config(strategy="semi_supervised", unlabeled_batch=2)
    with pytest.raises(ConfigError, match="needs pseudo-labels; pass the manifest of pseudo_label as 'labels'"):
        stages.train(config, {"data": data})
    assert list(stages.store.list(f"{stages.store.root}/stages/distill")) == []


def test_refinement_goes_on_from_the_student_of_its_input(stages, data):
    student = stages.train(stage_config(), {"data": data})
    config = stage_config(iterations=1, select="last", optimizer={"lr": 1e-12})
    refined = stages.train(config, {"data": data, "student": student}, stage="refine")
    before, after = (load_trained(item, stages.store).state_dict() for item in (student, refined))
    weights = [name for name in before if "running_" not in name and "num_batches" not in name]
    assert all(torch.allclose(before[name], after[name], atol=1e-9) for name in weights)


class StopsAt(NullRun):
    """Sends this process a SIGTERM when the losses of a step are logged."""

    def __init__(self, step: int) -> None:
        self.step = step

    def log_metrics(self, metrics, step=None):
        if step == self.step and "loss/total" in metrics:
            os.kill(os.getpid(), signal.SIGTERM)


_TEACHER = {"role": "teacher", "family": "mask2former"}
_CONTRAST = {"lambda_pxl": 0.1}
_SEMI = {"strategy": "semi_supervised", "unlabeled_batch": 2}
_TEACHING = {"recipe": "guided", "burn_in": 2, "decay": 0.5, "filter": {"class_threshold": 0.0, "soft_area": 0.0}}
TRAINING_NODES = {
    "adapt_teacher": {**_TEACHER, **_CONTRAST},
    "self_train_teacher": {**_TEACHER, **_CONTRAST, **_SEMI},
    "train_supervised": {},
    "distill": {**_CONTRAST, **_SEMI},
    "refine": {},
    "guided distill": {"strategy": "teacher_student", "unlabeled_batch": 2, "teaching": _TEACHING},
}


@pytest.mark.parametrize("name", TRAINING_NODES)
def test_an_interrupted_stage_ends_as_if_it_had_not_been(name, stages, data, labels, tmp_path):
    method, place = ("guided", "distill") if name.startswith("guided") else ("sskd", name)
    wanted = node(place, method)
    config, stage = stage_config(ema_decay=0.9, **TRAINING_NODES[name]), wanted.stage
    given = {"data": data, "labels": labels}
    for earlier in {"student", "teacher"} & wanted.inputs.keys():
        given[earlier] = stages.train(stage_config(iterations=1), {"data": data})
    inputs = {key: given[key] for key in wanted.inputs}
    with pytest.raises(Interrupted):
        stages.train(config, inputs, stage, run=StopsAt(3))
    assert find(stages.store, stage, stage_fingerprint(stage, config, inputs)) is None
    assert "latest.safetensors" in stages.checkpoints(stage)
    resumed = stages.train(config, inputs, stage)
    own = {"root": f"{stages.store.root}-whole", "read_roots": [stages.store.root]}
    whole = Stages(ObjectStore(stages.store.config.model_copy(update=own)), tmp_path).train(config, inputs, stage)
    assert [ref.digest for ref in resumed.outputs] == [ref.digest for ref in whole.outputs]
    assert resumed.metrics == whole.metrics
    assert stages.checkpoints(stage) == []


def test_every_training_node_is_interrupted_above():
    assert TRAINING_NODES.keys() == {*training_nodes("sskd"), "guided distill"}


def test_self_training_starts_from_the_original_weights(stages, data, labels):
    """Not from the adapted teacher: its manifest is no input, and the first iteration sees the configured weights."""
    assert "teacher" not in node("self_train_teacher").inputs
    still = {**TRAINING_NODES["self_train_teacher"], "iterations": 1, "select": "last", "optimizer": {"lr": 1e-12}}
    config, inputs = stage_config(**still), {"data": data, "labels": labels}
    stages.train(stage_config(**_TEACHER), {"data": data}, "adapt_teacher")
    taught = load_trained(stages.train(config, inputs, "adapt_teacher"), stages.store).state_dict()
    original = construct(config.model, data.facts["classes"], config.seed).state_dict()
    weights = [name for name in taught if "running_" not in name and "num_batches" not in name]
    assert all(torch.allclose(taught[name], original[name], atol=1e-9) for name in weights)


def test_death_between_training_and_commit_costs_no_training(stages, data, monkeypatch):
    config, inputs = stage_config(checkpoint_seconds=0.0), {"data": data}

    def die(*arguments):
        raise RuntimeError("the machine went away")

    with monkeypatch.context() as patch:
        patch.setattr(contract, "commit", die)
        with pytest.raises(RuntimeError):
            stages.train(config, inputs)
    assert stages.checkpoints() == ["best.safetensors", "latest.safetensors"]
    monkeypatch.setattr(Supervised, "step", die)
    assert stages.train(config, inputs).facts["iterations"] == 4
    assert stages.checkpoints() == []
