"""One experiment: its nodes, and the configuration of each cut from it."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from sskd_core.config.data import PrepareConfig
from sskd_core.config.experiment import NODES, ExperimentConfig, node
from sskd_core.config.finish import EvaluateConfig, ExportConfig, RegisterConfig
from sskd_core.config.label import PseudoLabelStageConfig
from sskd_core.config.train import TrainConfig, TrainStageConfig
from sskd_core.errors import ConfigError

SUPERVISED = {"unlabeled_batch": 0}
VALUES = {
    "name": "test",
    "seed": 7,
    "data": {"labeled": {"annotations": "a.json", "images": "images"}, "unlabeled": ["more"]},
    "teacher": {"family": "mask2former", "licence": "MIT"},
    "student": {"family": "dinov2_dpt", "licence": "CC0-1.0"},
    "stages": {
        "adapt_teacher": {**SUPERVISED, "iterations": 1},
        "self_train_teacher": {**SUPERVISED, "iterations": 2},
        "train_supervised": {**SUPERVISED, "iterations": 3},
        "distill": {"strategy": "semi_supervised", "iterations": 4},
        "refine": {**SUPERVISED, "iterations": 5},
    },
    "label_workers": 3,
}


@pytest.fixture
def experiment() -> ExperimentConfig:
    return ExperimentConfig.model_validate(VALUES)


def test_every_node_takes_its_inputs_from_nodes_before_it():
    known: set[str] = set()
    for item in NODES:
        assert set(item.inputs.values()) <= known, item.name
        known.add(item.name)
    assert len(known) == len(NODES)


def test_an_unknown_node_is_told_with_the_list():
    with pytest.raises(ConfigError, match=r"^no stage 'destill'; the stages are: prepare, adapt_teacher, .*register$"):
        node("destill")
    assert node("distill").inputs == {"data": "prepare", "labels": "relabel"}


@pytest.mark.parametrize(
    ("name", "role", "family", "iterations"),
    [
        ("adapt_teacher", "teacher", "mask2former", 1),
        ("self_train_teacher", "teacher", "mask2former", 2),
        ("train_supervised", "student", "dinov2_dpt", 3),
        ("distill", "student", "dinov2_dpt", 4),
        ("refine", "student", "dinov2_dpt", 5),
    ],
)
def test_a_training_node_gets_its_model_its_run_and_the_seed(experiment, name, role, family, iterations):
    config = experiment.stage_config(name)
    assert isinstance(config, TrainStageConfig)
    assert (config.role, config.model.family, config.train.iterations, config.seed) == (role, family, iterations, 7)


@pytest.mark.parametrize("change", [{"strategy": "semi_supervised", "unlabeled_batch": 2}, {"lambda_pxl": 0.1}])
def test_refinement_with_anything_but_annotations_is_refused(change):
    stages = {**VALUES["stages"], "refine": {**VALUES["stages"]["refine"], **change}}
    with pytest.raises(ValidationError, match="refinement is supervised only"):
        ExperimentConfig.model_validate({**VALUES, "stages": stages})


@pytest.mark.parametrize("family", ["mask_rcnn", "detectron2"])
def test_a_student_that_cannot_be_exported_is_refused_before_it_is_trained(family):
    with pytest.raises(ValidationError, match=f"student.family {family} has no portable ONNX file"):
        ExperimentConfig.model_validate({**VALUES, "student": {"family": family}})
    ExperimentConfig.model_validate({**VALUES, "teacher": {"family": family}})


def test_the_other_nodes_get_theirs(experiment):
    kinds = {
        "prepare": PrepareConfig,
        "pseudo_label": PseudoLabelStageConfig,
        "relabel": PseudoLabelStageConfig,
        "evaluate": EvaluateConfig,
        "export_onnx": ExportConfig,
        "register": RegisterConfig,
    }
    assert {name: type(experiment.stage_config(name)) for name in kinds} == kinds
    assert experiment.stage_config("prepare").seed == 7


def test_workers_share_a_fingerprint(experiment):
    first, second = (experiment.stage_config("relabel", worker) for worker in (0, 2))
    assert (second.worker, second.workers) == (2, 3)
    assert first.fingerprint_dict() == second.fingerprint_dict()


def test_the_number_of_workers_and_threads_changes_no_result(experiment):
    other = experiment.model_copy(update={"label_workers": 9, "threads": 2})
    for item in NODES:
        ours, theirs = (each.stage_config(item.name).fingerprint_dict() for each in (experiment, other))
        assert ours == theirs


@pytest.mark.parametrize("name", ["Test", "", "a b", "x" * 64, "-a"])
def test_a_name_must_serve_as_a_label(name):
    with pytest.raises(ValidationError, match="name"):
        ExperimentConfig.model_validate({**VALUES, "name": name})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"strategy": "semi_supervised", "unlabeled_batch": 0}, "needs unlabeled_batch >= 1"),
        ({"strategy": "supervised"}, "set unlabeled_batch: 0"),
        ({"unlabeled_batch": 0, "augment": {"scale": (2.0, 0.5)}}, "scale must be two increasing positive numbers"),
        ({"unlabeled_batch": 0, "ema_decay": 1.0}, "less than 1"),
        ({"unlabeled_batch": 0, "iterations": -1}, "greater than or equal to 0"),
    ],
    ids=str,
)
def test_impossible_training_runs_are_refused(values, message):
    with pytest.raises(ValidationError, match=message):
        TrainConfig.model_validate(values)
