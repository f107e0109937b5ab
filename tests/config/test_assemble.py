"""A form and an experiment say the same."""

from __future__ import annotations

import pytest

from sskd_core.config.assemble import assemble, fill_in, storage_section
from sskd_core.config.loading import load_experiment, preset_names
from sskd_core.config.parameters import FORMS, PARAMETERS
from sskd_core.errors import ConfigError

DATA = {
    "storage_root": "s3://bucket/x",
    "labeled_annotations": "s3://bucket/l.json",
    "labeled_images": "s3://bucket/l",
    "unlabeled_images": ["s3://bucket/u"],
}


def defaults() -> dict[str, object]:
    return {item.name: item.type(item.default) for item in PARAMETERS if item.default is not None}


@pytest.mark.parametrize("preset", preset_names())
def test_an_experiment_comes_back_as_it_was(preset: str):
    experiment = load_experiment(preset)
    form = fill_in(experiment)
    assert set(form) == {item.name for item in FORMS[experiment.method]}
    assert all(isinstance(form[item.name], str) for item in FORMS[experiment.method] if item.type is str)
    assert assemble(form) == experiment
    assert assemble(form | {"overrides": {}}) == experiment


def test_the_defaults_with_data_are_a_run_of_the_demo_s_settings():
    made = assemble(defaults() | DATA)
    demo = load_experiment("demo")
    assert made.stages == demo.stages
    assert made.student == demo.student
    assert (made.teacher, made.label_workers, made.data.val) == (demo.teacher, demo.label_workers, None)
    assert made.storage.read_roots == ["s3://bucket/l.json", "s3://bucket/l", "s3://bucket/u"]


def test_the_defaults_of_the_guided_form_are_its_demo():
    form = {item.name: item.type(item.default) for item in FORMS["guided"] if item.default is not None}
    made, demo = assemble(form | DATA | {"method": "guided"}), load_experiment("demo_guided")
    assert (made.stages.adapt_teacher, made.stages.gate) == (demo.stages.adapt_teacher, demo.stages.gate)
    assert made.student == made.teacher == demo.teacher
    changed = made.stages.distill.teaching.model_copy(update={"burn_in": demo.stages.distill.teaching.burn_in})
    assert made.stages.distill.teaching.burn_in == "auto"
    assert changed == demo.stages.distill.teaching


def test_a_form_of_one_method_refuses_the_experiment_of_another():
    with pytest.raises(ConfigError, match=r"stages\.self_train_teacher"):
        assemble(defaults() | DATA | {"experiment": "{preset: demo_guided, data: {}}", "method": "sskd"})


def test_overrides_win_over_fields_and_fields_over_the_document():
    form = defaults() | DATA | {"experiment": "{preset: demo, data: {}, seed: 3, label_workers: 9}"}
    assert assemble(form | {"seed": 4}).seed == 4
    assert assemble({key: value for key, value in form.items() if key != "seed"}).seed == 3
    assert assemble(form | {"overrides": {"seed": 5}}).seed == 5
    assert assemble(form).label_workers == 2


def test_an_empty_field_leaves_the_setting_and_zero_is_a_value():
    form = defaults() | DATA
    assert assemble(form | {"teacher_weights": ""}).teacher.weights == "builtin:demo-teacher"
    assert assemble(form | {"classes": []}).data.classes is None
    assert assemble(form | {"classes": ["b", "a"]}).data.classes == ["b", "a"]
    assert assemble(form | {"gate_min_gain": 0.0}).stages.gate.min_gain_over_supervised == 0


def test_the_store_is_known_even_when_the_rest_is_wrong():
    form = defaults() | DATA | {"refine_iterations": -1, "overrides": {"storage": {"region": "eu-1"}}}
    with pytest.raises(ConfigError, match=r"'refine_iterations' \(stages.refine.iterations\)"):
        assemble(form)
    assert storage_section(form) == {"root": "s3://bucket/x", "region": "eu-1"}
    with pytest.raises(ConfigError, match="'overrides' must be a JSON object"):
        assemble(form | {"overrides": "[]"})
