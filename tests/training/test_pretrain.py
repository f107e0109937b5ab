"""Pre-training of what the package ships, and that what it ships can be built."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from engine_fixtures import model_config, train_config

from sskd_core.config.loading import load_preset_values
from sskd_core.config.model import InputConfig, ModelConfig
from sskd_core.config.pretrain import PretrainConfig
from sskd_core.data.scenes import CLASSES
from sskd_core.models import weights
from sskd_core.models.build import build_model
from sskd_core.models.weights import open_weights
from sskd_core.progress import Progress
from sskd_core.training.pretrain import SceneExamples, deliver, pretrain, scene_validator

SCENES = InputConfig(height=96, width=128)


def config(part: str, **train) -> PretrainConfig:
    family = "mask2former" if part == "model" else "dinov2_dpt"
    return PretrainConfig(
        model=model_config(family, licence="Apache-2.0").model_copy(update={"input": SCENES}),
        train=train_config(**{"iterations": 4, "val_every": 2, **train}),
        deliver=part,
        scenes=3,
        val_scenes=2,
    )


@pytest.fixture
def run(store, tmp_path):
    """Return a function that pre-trains and delivers into a folder."""

    def run_(part: str, **train):
        settings = config(part, **train)
        outcome = pretrain(settings, store, f"{store.root}/pretrain-{part}", Progress("pretrain", tmp_path / "p"))
        deliver(settings, outcome, "sskd pretrain x", tmp_path / part)
        return outcome, tmp_path / part

    return run_


def test_a_delivered_teacher_starts_a_run(run):
    outcome, folder = run("model")
    loaded = build_model(ModelConfig(family="mask2former", weights=str(folder), input=SCENES), list(CLASSES), None, 0)
    for name, value in outcome.model.state_dict().items():
        # Half precision on disk, single in use.
        assert loaded.state_dict()[name].dtype == value.dtype
        assert torch.equal(loaded.state_dict()[name], value.half().to(value.dtype)), name
    assert json.loads((folder / "config.json").read_text())["part"] == "model"


def test_a_delivered_encoder_starts_a_student(run):
    outcome, folder = run("encoder")
    student = model_config(encoder_weights=str(folder)).model_copy(update={"input": SCENES})
    loaded = build_model(student, list(CLASSES), None, 0)
    for ours, theirs in zip(loaded.encoder.parameters(), outcome.model.encoder.parameters(), strict=True):
        assert torch.equal(ours, theirs.half().float())
    assert set(open_weights(str(folder), None).tensors()) == set(loaded.encoder.state_dict())


@pytest.mark.parametrize(("part", "metric"), [("model", "mask_ap"), ("encoder", "cell_accuracy")])
def test_the_card_says_how_the_weights_came_to_be(part, metric, run):
    outcome, folder = run(part)
    card = (folder / "README.md").read_text()
    for phrase in (
        "sskd pretrain x",
        "4 iterations",
        "3 rendered scenes",
        "licence Apache-2.0",
        metric,
        torch.__version__,
    ):
        assert phrase in card, phrase
    assert f"{outcome.val_score:.1f}" in card
    curve = json.loads((folder / "curve.json").read_text())["series"]
    assert curve.keys() == {"loss/total", f"val/{metric}"}


def test_scenes_are_a_pure_function_of_their_number():
    first, second = (SceneExamples(1, "source", "pretrain", 3) for _ in range(2))
    assert len(first) == 3
    for index in (2, 0, 2):
        assert np.array_equal(first[index].image, second[index].image)
        assert first[index].labels == second[index].labels
        assert len(first[index].masks) == len(first[index].labels)


def test_a_network_that_knows_nothing_scores_low_on_scenes():
    model = build_model(model_config().model_copy(update={"input": SCENES}), list(CLASSES), None, 0).eval()
    assert 0.0 <= scene_validator(0, "target", 2)(model) < 10.0


def shipped() -> list[str]:
    return sorted(path.name for path in weights.BUILTIN.iterdir() if path.is_dir())


@pytest.mark.parametrize("role", ["teacher", "student"])
def test_the_demo_starts_from_shipped_weights(role):
    values = ModelConfig.model_validate(load_preset_values("demo")[role])
    location = values.weights or values.encoder_weights
    assert location.removeprefix("builtin:") in shipped()
    model = build_model(values, list(CLASSES), None, 0)
    assert model.classes == list(CLASSES)


@pytest.mark.parametrize("name", shipped())
def test_shipped_weights_are_small_and_say_where_they_come_from(name):
    folder = weights.BUILTIN / name
    assert sum(path.stat().st_size for path in folder.iterdir()) < 12 << 20
    card = (folder / "README.md").read_text()
    assert "Apache-2.0" in card
    assert "No scene of the target domain" in card
    assert all(
        torch.isfinite(value.float()).all() for value in open_weights(f"builtin:{name}", None).tensors().values()
    )
