"""Teacher and student through the contract: every recipe trains, and what does not fit is refused before it begins."""

# ruff: noqa: F811

from __future__ import annotations

import json

import pytest
from engine_fixtures import model_config, train_config
from train_fixtures import Stages, data, labels, stages  # noqa: F401 (fixtures)

from sskd_core.config.train import TrainStageConfig
from sskd_core.errors import ConfigError, DataError, UserError
from sskd_core.models.trained import load_trained
from sskd_core.stages import teacher_student as built
from sskd_core.storage.manifest import Manifest

LOOSE = {"class_threshold": 0.0, "soft_area": 0.0}
RECIPES = {
    "supervised": {},
    "no_burn_in_copy": {},
    "no_burn_in_keep": {},
    "fixed": {},
    "standard": {"burn_in": 2},
    "guided": {"burn_in": 2},
    "data_distillation": {},
}


def config(family: str = "dinov2_dpt", **teaching) -> TrainStageConfig:
    train = train_config(
        strategy="teacher_student",
        iterations=4,
        val_every=2,
        unlabeled_batch=2,
        teaching={"filter": LOOSE, "decay": 0.5, **teaching},
    )
    return TrainStageConfig(role="student", model=model_config(family), train=train)


@pytest.fixture
def teacher(stages: Stages, data: Manifest) -> Manifest:
    supervised = TrainStageConfig(role="teacher", model=model_config(), train=train_config(iterations=1), seed=3)
    return stages.train(supervised, {"data": data}, "adapt_teacher")


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_trains(recipe, stages, data, labels, teacher):
    inputs = {"data": data, "teacher": teacher, "labels": labels}
    manifest = stages.train(config(recipe=recipe, **RECIPES[recipe]), inputs)
    curves = json.loads(stages.store.read(manifest.output("curves")))["series"]
    assert len(curves["loss/sup_class"]) == 4
    unlabelled = {"supervised": 0, "standard": 2}.get(recipe, 4)
    assert len(curves.get("loss/semi_class", [])) == unlabelled
    assert manifest.facts.get("switched_at") == {"supervised": None, "data_distillation": None}.get(
        recipe, RECIPES[recipe].get("burn_in", 0)
    )
    assert "unlabeled" not in manifest.licences
    load_trained(manifest, stages.store)


def test_the_teacher_s_licence_goes_with_its_labels(stages, data, teacher):
    marked = teacher.model_copy(update={"licences": ["CC-BY-NC-4.0"]})
    manifest = stages.train(config(recipe="fixed"), {"data": data, "teacher": marked})
    assert "CC-BY-NC-4.0" in manifest.licences


def test_a_fixed_teacher_may_be_another_network(stages, data, teacher):
    stages.train(config("mask2former", recipe="fixed"), {"data": data, "teacher": teacher})
    with pytest.raises(ConfigError, match="teacher and student are different networks"):
        stages.train(config("mask2former", recipe="guided", burn_in=2), {"data": data, "teacher": teacher})


def test_networks_without_queries_are_refused():
    with pytest.raises(ConfigError, match="a teacher of family mask_rcnn predicts no queries"):
        built._require_queries("teacher", "mask_rcnn")


def test_labelled_images_may_count_as_unlabelled_too(stages, data, teacher):
    found = [
        len(built._examples(built.Dataset.load(data, stages.store), which, None)) for which in ("complement", "all")
    ]
    assert found == [6, 10]


def test_a_teacher_of_other_classes_is_refused(stages, data, teacher):
    other = teacher.model_copy(update={"facts": {**teacher.facts, "classes": ["cat", "dog"]}})
    with pytest.raises(ConfigError, match=r"the teacher knows 2 classes \(cat, dog\), the data set has \d"):
        stages.train(config(recipe="fixed"), {"data": data, "teacher": other})


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ("fixed", "'checkpoint' needs the manifest of a training stage as 'teacher'"),
        ("data_distillation", "'shards' need the manifest of pseudo_label as 'labels'"),
    ],
)
def test_a_missing_input_is_named(recipe, message, stages, data):
    with pytest.raises(ConfigError, match=message):
        stages.train(config(recipe=recipe), {"data": data})


def test_without_an_unlabelled_image_there_is_nothing_to_learn_from(stages, data, teacher, monkeypatch):
    images = built.Dataset.images
    monkeypatch.setattr(
        built.Dataset, "images", lambda self, split: [] if split == "unlabeled" else images(self, split)
    )
    with pytest.raises(DataError, match=r"no unlabelled image for the student to learn from; check data\.unlabeled"):
        stages.train(config(recipe="fixed"), {"data": data, "teacher": teacher})
    assert list(stages.store.list(f"{stages.store.root}/stages/distill")) == []


def test_a_teacher_that_finds_nothing_stops_the_run(stages, data, teacher):
    silent = {"class_threshold": 1.0, "patience": 2}
    with pytest.raises(UserError, match="the teacher gave no pseudo-label for 2 iterations, up to 1, on 4 images"):
        stages.train(config(recipe="fixed", filter=silent), {"data": data, "teacher": teacher})


def test_rare_classes_are_drawn_more_often(stages, data):
    """The sampler reaches the loader: the run is another one, and its length the same."""
    plain = TrainStageConfig(role="student", model=model_config(), train=train_config())
    rare = plain.model_copy(update={"train": train_config(labeled_sampler="repeat_factor")})
    one, other = (stages.train(item, {"data": data}) for item in (plain, rare))
    assert one.fingerprint != other.fingerprint
    assert one.output("model/model.safetensors").digest != other.output("model/model.safetensors").digest
