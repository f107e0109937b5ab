"""One experiment: its nodes, and the configuration of each cut from it."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from sskd_core.config.data import PrepareConfig
from sskd_core.config.experiment import ExperimentConfig
from sskd_core.config.finish import EvaluateConfig, ExportConfig, RegisterConfig
from sskd_core.config.graph import GRAPHS, GUIDED, SSKD, node
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


@pytest.mark.parametrize("method", GRAPHS)
def test_every_node_takes_its_inputs_from_nodes_before_it(method):
    known: set[str] = set()
    for item in GRAPHS[method]:
        assert set(item.inputs.values()) <= known, item.name
        known.add(item.name)
    assert len(known) == len(GRAPHS[method])


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
    for item in SSKD:
        ours, theirs = (each.stage_config(item.name).fingerprint_dict() for each in (experiment, other))
        assert ours == theirs


def test_a_method_has_the_settings_of_its_stages_and_no_others():
    missing = {**VALUES["stages"], "refine": None}
    with pytest.raises(ValidationError, match=r"'stages\.refine' is required"):
        ExperimentConfig.model_validate({**VALUES, "stages": missing})
    with pytest.raises(ValidationError, match=r"stages\.self_train_teacher: method 'guided' has no such stage"):
        ExperimentConfig.model_validate({**VALUES, "method": "guided"})


def guided(**teaching) -> dict[str, object]:
    distill = {"strategy": "teacher_student", "teaching": {"recipe": "guided", "burn_in": 3, **teaching}}
    stages = {"adapt_teacher": {**SUPERVISED, "iterations": 1}, "distill": {**distill, "iterations": 4}}
    return {key: value for key, value in VALUES.items() if key != "student"} | {"method": "guided", "stages": stages}


def test_a_guided_student_is_its_teacher_s_network_unless_another_is_named():
    experiment = ExperimentConfig.model_validate(guided())
    assert experiment.student == experiment.teacher
    assert [item.name for item in experiment.nodes] == [item.name for item in GUIDED]
    assert experiment.stage_config("distill").train.teaching.burn_in == 3
    assert ExperimentConfig.model_validate(guided() | {"student": VALUES["student"]}).student.licence == "CC0-1.0"


def test_a_guided_student_has_an_online_teacher():
    stages = guided()["stages"] | {"distill": {**SUPERVISED, "iterations": 4}}
    with pytest.raises(ValidationError, match="method 'guided' needs strategy: teacher_student"):
        ExperimentConfig.model_validate(guided() | {"stages": stages})
    stored = {"strategy": "teacher_student", "teaching": {"recipe": "data_distillation"}, "iterations": 4}
    with pytest.raises(ValidationError, match="method 'guided' stores no labels"):
        ExperimentConfig.model_validate(guided() | {"stages": guided()["stages"] | {"distill": stored}})


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
