"""The evaluation of all models: what is measured, what is drawn, and on which networks."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from engine_fixtures import CLASSES, Rectangles, labeled_image, tiny_model
from PIL import Image
from split_fixtures import context_of, prepared, trained

from sskd_core.config.finish import EvaluateConfig
from sskd_core.data.records import Instance
from sskd_core.errors import ConfigError, UserError
from sskd_core.models.build import build_model
from sskd_core.models.predict import Predictor
from sskd_core.stages import evaluate
from sskd_core.stages.contract import execute
from sskd_core.stages.evaluate import MODELS, Candidate
from sskd_core.storage.manifest import Manifest
from sskd_core.storage.store import ObjectStore

IMAGES = 6


class Oracle:
    """Answers with the truth, as far as it knows it.

    Args:
        classes: that it says to know.
        knows: categories that it finds.
    """

    def __init__(self, knows: Sequence[int] = (), classes: Sequence[str] = CLASSES) -> None:
        self.knows, self.classes = knows, list(classes)
        data = Rectangles(IMAGES)
        self._truth = {data[n].image.tobytes(): labeled_image("", data[n]).instances for n in range(IMAGES)}
        self.batches: list[int] = []

    def predict(self, images: list[np.ndarray]) -> list[list[Instance]]:
        """Return the known instances of each image."""
        self.batches.append(len(images))
        return [[item for item in self._truth[image.tobytes()] if item.category in self.knows] for image in images]


def run(
    store: ObjectStore, workdir: Path, models: dict[str, Oracle], **values: object
) -> tuple[Manifest, dict[str, Manifest]]:
    data = prepared(store, IMAGES)
    inputs = {"data": data, **dict.fromkeys(set(models) - {evaluate.ZERO_SHOT}, data)}
    config = EvaluateConfig(**{"batch": 4, "overlay_images": 2, **values})

    def stage(config, inputs, context):
        return evaluate.run(config, inputs, context, lambda name, *_: Candidate(models[name], 10 + len(name)))

    context = context_of("evaluate", config, inputs, store, workdir)
    return execute("evaluate", stage, config, inputs, context), inputs


def test_every_model_is_measured_on_the_same_split(store: ObjectStore, tmp_path: Path) -> None:
    models = {name: Oracle() for name in MODELS}
    models["refined_student"] = Oracle(knows=(0, 1, 2))
    models["adapted_teacher"] = Oracle(knows=(0,))
    manifest, _ = run(store, tmp_path, models)
    document = json.loads(store.read(manifest.output("evaluation")))
    assert set(manifest.metrics) == {f"{name}/{kind}" for name in MODELS for kind in ("mask_ap", "mask_ap50")}
    assert manifest.metrics["refined_student/mask_ap"] == pytest.approx(100.0)
    assert manifest.metrics["zero_shot_teacher/mask_ap50"] == 0.0
    assert 0.0 < manifest.metrics["adapted_teacher/mask_ap"] < 100.0
    assert document["split"] == "test"
    assert document["evaluator"].startswith("hotcoco ")
    figures = document["models"]["adapted_teacher"]
    assert figures["mask_ap"] == manifest.metrics["adapted_teacher/mask_ap"]
    assert figures["per_class"] == {"disc": pytest.approx(100.0), "box": 0.0, "star": 0.0}
    assert (figures["images"], figures["parameters"]) == (IMAGES, 25)
    assert manifest.facts["models"] == {name: 10 + len(name) for name in MODELS}
    assert {tuple(model.batches) for model in models.values()} == {(4, 2)}


@pytest.mark.skipif(find_spec("detectron2") is None, reason="detectron2 is not installed")
def test_a_second_opinion_stands_beside_the_first(store: ObjectStore, tmp_path: Path) -> None:
    models = {name: Oracle() for name in MODELS} | {"adapted_teacher": Oracle(knows=(0,))}
    manifest, _ = run(store, tmp_path, models, second_opinion=True)
    first, second = (manifest.metrics[f"adapted_teacher/mask_ap{kind}"] for kind in ("", "_second_opinion"))
    assert second == pytest.approx(first, abs=0.01)
    figures = json.loads(store.read(manifest.output("evaluation")))["models"]["adapted_teacher"]
    assert figures["second_opinion"]["evaluator"].startswith("detectron2 ")


@pytest.mark.skipif(find_spec("detectron2") is not None, reason="detectron2 is installed")
def test_a_second_opinion_that_cannot_be_had_is_refused_at_once(store: ObjectStore, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="detectron2 is not installed"):
        run(store, tmp_path, {name: Oracle() for name in MODELS}, second_opinion=True)


def test_progress_counts_images_over_all_models(store: ObjectStore, tmp_path: Path) -> None:
    run(store, tmp_path, {name: Oracle() for name in MODELS})
    records = [json.loads(line) for line in (tmp_path / "evaluate.jsonl").read_text().splitlines()]
    steps = [(item["done"], item["total"], item["unit"]) for item in records]
    assert steps == [(6 * model + done, 30, "images") for model in range(5) for done in (4, 6)]


def test_rows_show_the_truth_and_what_the_models_find(store: ObjectStore, tmp_path: Path) -> None:
    models = {name: Oracle() for name in MODELS} | {"refined_student": Oracle(knows=(0, 1, 2))}
    manifest, _ = run(store, tmp_path, models)
    rows = manifest.outputs_like("overlays/")
    assert [item.name for item in rows] == ["overlays/00", "overlays/01"]
    # The first image has no object, the last has one.
    picture = np.asarray(Image.open(io.BytesIO(store.read(rows[1]))))[26:].astype(int)
    truth, zero_shot, adapted, student = (picture[:, left : left + 480] for left in range(0, 4 * 486, 486))
    assert (zero_shot == adapted).all()
    assert (truth == student).all()
    assert np.abs(truth - zero_shot).max() > 50


@pytest.mark.parametrize("wanted", [0, 50])
def test_rows_are_as_many_as_asked_for_and_as_there_are_images(store: ObjectStore, tmp_path: Path, wanted: int) -> None:
    manifest, _ = run(store, tmp_path, {name: Oracle() for name in MODELS}, overlay_images=wanted)
    assert len(manifest.outputs_like("overlays/")) == min(wanted, IMAGES)


def test_a_model_of_other_classes_is_refused(store: ObjectStore, tmp_path: Path) -> None:
    models = {name: Oracle() for name in MODELS} | {"distilled_student": Oracle(classes=["cat", "dog"])}
    with pytest.raises(UserError, match="distilled_student knows the classes cat, dog, the data set has disc, box, st"):
        run(store, tmp_path, models)


def test_real_networks_are_loaded_from_their_manifests(store: ObjectStore, tmp_path: Path) -> None:
    inputs = {"data": prepared(store, IMAGES)}
    for number, name in enumerate(MODELS[1:]):
        family = "mask2former" if name == "adapted_teacher" else "dinov2_dpt"
        inputs[name] = trained(tiny_model(family, seed=number), store, name)
    config = EvaluateConfig(overlay_images=1)
    context = context_of("evaluate", config, inputs, store, tmp_path)
    manifest = execute("evaluate", evaluate.run, config, inputs, context)
    sizes = manifest.facts["models"]
    assert sizes["zero_shot_teacher"] == sizes["adapted_teacher"] != sizes["refined_student"]
    assert sizes["refined_student"] == sum(parameter.numel() for parameter in tiny_model().parameters())
    assert manifest.licences == ["CC-BY-4.0"]


def test_the_zero_shot_teacher_is_the_adapted_one_before_its_first_step(store: ObjectStore) -> None:
    adapted = trained(tiny_model("mask2former", seed=1), store, "adapted")
    inputs = {"data": prepared(store, 1), "adapted_teacher": adapted}
    found = evaluate.load_network("zero_shot_teacher", inputs, store, EvaluateConfig(max_detections=7)).predictor
    assert isinstance(found, Predictor)
    assert found.max_instances == 7
    assert not found.model.training
    expected = build_model(tiny_model("mask2former").config, CLASSES, store, seed=5).state_dict()
    for name, value in found.model.state_dict().items():
        assert torch.equal(value.cpu(), expected[name]), name
