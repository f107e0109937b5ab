"""The recipes of the paper's table, and the combinations that would not do what they say."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from sskd_core.config.teaching import RECIPES, OnlineLabelConfig, TeachingConfig
from sskd_core.config.train import TrainConfig

# Table 4 of the paper and section 6.1 of its state machine: teacher at first, B, lambda_u before B, copy, update.
TABLE = {
    "supervised": ("none", 0, 0.0, False, "fixed"),
    "no_burn_in_copy": ("student", 0, 2.0, True, "ema"),
    "no_burn_in_keep": ("checkpoint", 0, 2.0, False, "ema"),
    "fixed": ("checkpoint", 0, 2.0, False, "fixed"),
    "standard": ("none", 7, 0.0, True, "ema"),
    "guided": ("checkpoint", 7, 2.0, True, "ema"),
    "data_distillation": ("none", 0, 2.0, False, "fixed"),
}


def test_the_table_has_every_recipe():
    assert TABLE.keys() == RECIPES.keys()


@pytest.mark.parametrize("name", TABLE)
def test_a_recipe_is_a_row_of_the_table(name):
    own = {} if "burn_in" in RECIPES[name] else {"burn_in": 7}
    config = TeachingConfig(recipe=name, **own)
    before = config.lambda_u if config.burn_in_lambda_u is None else config.burn_in_lambda_u
    found = (config.teacher, config.burn_in, before, config.copy_at_switch, config.update)
    assert found == TABLE[name]
    assert (config.labels, config.view) == (("shards", "same") if name == "data_distillation" else ("online", "strong"))
    assert config.unlabeled_used == (name != "supervised")
    assert TeachingConfig.model_validate(config.model_dump()) == config


def test_a_recipe_is_its_settings():
    named = TeachingConfig(recipe="fixed")
    written = TeachingConfig(**RECIPES["fixed"])
    assert named.fingerprint_dict() == written.fingerprint_dict()


def test_a_recipe_may_be_changed_where_it_says_nothing():
    config = TeachingConfig(recipe="data_distillation", view="strong", lambda_u=0.5)
    assert (config.view, config.lambda_u, config.update) == ("strong", 0.5, "fixed")


def test_a_number_in_a_form_s_text_field_is_one():
    assert TeachingConfig(recipe="guided", burn_in="40").burn_in == 40  # type: ignore[arg-type]
    assert TeachingConfig(recipe="fixed", burn_in="0").burn_in == 0  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"recipe": "fixed", "update": "ema"}, "recipe 'fixed' means update: fixed, got ema; leave out one"),
        ({"recipe": "fixed", "burn_in": 5}, "recipe 'fixed' means burn_in: 0, got 5"),
        ({"recipe": "standard"}, "burn_in 'auto' waits for the student to reach a trained teacher"),
        ({"teacher": "none", "burn_in": 5}, "teacher 'none' cannot label before the switch"),
        ({"teacher": "none", "burn_in": 0, "copy_at_switch": False}, "teacher 'none' cannot label"),
        ({"labels": "shards"}, "labels 'shards' need no teacher"),
        ({"burn_in": -1}, "burn_in must be a number of iterations or auto"),
        ({"burn_in": "soon"}, "burn_in"),
        ({"recipe": "giuded"}, "recipe"),
        ({"decay": 1.0}, "decay"),
    ],
    ids=str,
)
def test_what_makes_no_sense_is_refused(values, message):
    with pytest.raises(ValidationError, match=message):
        TeachingConfig.model_validate(values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"teaching": {"burn_in": 10}}, "burn_in of 10 iterations is not shorter than the run of 10"),
        ({"teaching": {"burn_in": 50}}, "teacher would never be written; shorten it, or set recipe: fixed"),
        ({}, "'teaching' belongs to strategy 'teacher_student', which needs it"),
        ({"strategy": "semi_supervised", "teaching": {}}, "'teaching' belongs to strategy 'teacher_student'"),
        ({"teaching": {}, "unlabeled_batch": 0}, "needs unlabeled_batch >= 1"),
        ({"teaching": {}, "lambda_pxl": 0.1}, "has no contrastive term"),
    ],
    ids=str,
)
def test_a_run_that_does_not_fit_is_refused(values, message):
    with pytest.raises(ValidationError, match=message):
        TrainConfig.model_validate({"strategy": "teacher_student", "iterations": 10, **values})


def test_patience_changes_no_result():
    short, long = (TeachingConfig(filter=OnlineLabelConfig(patience=steps)) for steps in (1, 10))
    assert short.fingerprint_dict() == long.fingerprint_dict()
    assert (short.filter.patience_in(400), TeachingConfig().filter.patience_in(900)) == (1, 90)
