"""The grounded teacher as the `teacher` of a run: adapted, labelling, learning from its labels, evaluated."""

from __future__ import annotations

import json

import pytest
from grounding_fixtures import grounded_config

from sskd_core.config.experiment import ExperimentConfig
from sskd_core.errors import ConfigError
from sskd_core.models.pin import pin_weights
from sskd_core.models.trained import load_trained
from sskd_core.stages.entry import run_node
from sskd_core.stages.evaluate import ZERO_SHOT, load_network
from sskd_core.storage.manifest import Manifest
from sskd_core.storage.store import ObjectStore
from tests.micro import micro_data, micro_experiment

TRAIN = {
    "iterations": 2,
    "labeled_batch": 2,
    "unlabeled_batch": 0,
    "val_every": 2,
    "log_every": 1,
    "optimizer": {"lr": 1e-4, "clip_grad_norm": 0.1},
    "criterion": {"num_points": 32},
    "ema_decay": 0.5,
    "lambda_pxl": 0.1,
    "contrast": {"num_negatives": 4, "feature_level": -2},
}
SELF_TRAIN = TRAIN | {"strategy": "semi_supervised", "unlabeled_batch": 2}


def experiment(parts, store: ObjectStore, **grounding) -> ExperimentConfig:
    settings = {"score_threshold": 0.4, "train_mask_decoder": True, **grounding}
    teacher = grounded_config(*parts, **settings).model_dump(mode="json") | {"licence": "Apache-2.0"}
    whole = micro_experiment(store.config, micro_data(store)).model_dump(mode="json")
    label = {"shard_images": 4, "batch": 3, "min_area": 1, "max_empty_rate": 1.0, "max_class_drift": 1.0}
    stages = whole["stages"] | {"adapt_teacher": TRAIN, "self_train_teacher": SELF_TRAIN, "pseudo_label": label}
    values = whole | {"teacher": teacher, "stages": stages, "label_workers": 1}
    return pin_weights(ExperimentConfig.model_validate(values), store)


@pytest.fixture
def run(teacher_parts, store) -> tuple[ExperimentConfig, dict[str, Manifest]]:
    """The first three stages of a run."""
    config = experiment(teacher_parts, store)
    done = {"data": run_node(config, "prepare", {})}
    done["teacher"] = run_node(config, "adapt_teacher", {"data": done["data"]})
    run_node(config, "pseudo_label", {"data": done["data"], "teacher": done["teacher"]}, worker=0)
    done["labels"] = run_node(config, "pseudo_label", {"data": done["data"], "teacher": done["teacher"]})
    return config, done


def test_it_teaches_a_run(run, store):
    config, done = run
    curves = json.loads(store.read(done["teacher"].output("curves")))["series"]
    terms = {"class", "box", "giou", "proposal", "mask", "dice", "iou"}
    assert {f"loss/sup_{name}" for name in terms} | {"loss/pxl", "val/mask_ap"} <= curves.keys()
    assert sum(done["labels"].facts["class_histogram"].values()) > 0
    assert "Apache-2.0" in done["labels"].licences
    again = run_node(config, "self_train_teacher", {"data": done["data"], "labels": done["labels"]})
    curves = json.loads(store.read(again.output("curves")))["series"]
    assert {f"loss/semi_{name}" for name in terms} | {"semi_to_sup_ratio"} <= curves.keys()

    adapted = load_trained(done["teacher"], store)
    inputs = {"data": done["data"], "adapted_teacher": done["teacher"]}
    zero_shot = load_network(ZERO_SHOT, inputs, store, config.stages.evaluate)
    assert zero_shot.predictor.classes == adapted.classes == done["data"].facts["classes"]
    before, after = zero_shot.predictor.model.state_dict(), adapted.state_dict()
    moved = {name for name in before if not before[name].equal(after[name])}
    assert not any("text_backbone" in name or "prompt_encoder" in name for name in moved)
    for part in ("detector.model.decoder", "segmenter.mask_decoder", "segmenter.vision_encoder"):
        assert any(name.startswith(part) for name in moved)


def test_a_class_that_it_cannot_ask_for_stops_the_run(teacher_parts, store):
    config = experiment(teacher_parts, store, phrases={"disc": ["zebra"]})
    data = run_node(config, "prepare", {})
    with pytest.raises(ConfigError, match="class 'disc': the phrase 'zebra' holds 'zebra', which the tokenizer"):
        run_node(config, "adapt_teacher", {"data": data})
