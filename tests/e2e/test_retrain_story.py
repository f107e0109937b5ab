"""The story of a model: trained, gone on from when a lens fogs up, promoted for good figures, refused for bad ones, and
rolled back.

The networks, the images and the settings are the demo's. It has fewer unlabelled images (300 of 800), its trainings
are shorter, and what the story does not speak of (the supervised baseline, self-training, refinement) is cut to a few
steps: about ten minutes of one core.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from in_process import run_pipeline

from benchmarks.new_camera import fogged, noise, write_images, write_test_split
from sskd_core.config.data import LabeledSource
from sskd_core.config.loading import load_experiment
from sskd_core.config.tracking import TrackingConfig
from sskd_core.data.dataset import Dataset
from sskd_core.data.demo import DemoSizes, write_demo_dataset
from sskd_core.labels.store import load_labels
from sskd_core.retraining.request import Retrain, RetrainRequest
from sskd_core.storage.manifest import Manifest
from sskd_core.storage.store import ObjectStore
from sskd_core.tracking.client import connect
from sskd_core.tracking.promotion import Promotion
from sskd_core.tracking.registry import aliases, read_model

pytestmark = [pytest.mark.slow, pytest.mark.timeout(7200)]
NAME = "sskd-student"
URI = f"models:/{NAME}@champion"
SIZES = DemoSizes(labeled=24, unlabeled=300, val=40, test=200)
NEW, TEST = 100, 200
SHORTER = [
    "stages.self_train_teacher.iterations=10",
    "stages.self_train_teacher.val_every=10",
    "stages.train_supervised.iterations=20",
    "stages.train_supervised.val_every=20",
    "stages.distill.iterations=300",
    "stages.distill.val_every=150",
    "stages.refine.iterations=10",
    "stages.refine.val_every=10",
    "stages.evaluate.overlay_images=1",
    "stages.export_onnx.latency_runs=1",
    "stages.export_onnx.failure_images=0",
    # So short a training does not reach the floor of the demo; the champion counts here, and the health of the labels.
    "stages.gate.min_mask_ap=0",
    "stages.gate.min_gain_over_champion=0",
    "stages.gate.max_empty_rate=0.5",
]


def rules(done: dict[str, Manifest]) -> dict[str, dict[str, Any]]:
    verdict = done["register"].facts["verdict"]
    print(*(f"{rule['verdict']}: {rule['name']}: {rule['reason']}" for rule in verdict["rules"]), sep="\n")
    return {rule["name"]: rule for rule in verdict["rules"]}


def test_the_story_of_a_model(store: ObjectStore, tracking: TrackingConfig, tmp_path: Path):
    base = load_experiment("demo", SHORTER).model_copy(
        update={"storage": store.config, "tracking": tracking, "data": write_demo_dataset(store, 0, SIZES)}
    )
    client = connect(tracking, store.config)

    def go_on(place: str, *overrides: str, test: LabeledSource | None = None) -> dict[str, Manifest]:
        request = RetrainRequest([place], test=test, base=base, overrides=overrides)
        plan, experiment = Retrain(request, tracking, store).prepare(write=True)
        assert plan.new == NEW
        return run_pipeline(experiment)

    first = run_pipeline(base)
    assert aliases(client, NAME) == {"champion": "1"}
    file = read_model(URI, tracking, store)

    # A hundred images of another look: these alone are labelled, and the model that learned from them is better there.
    annotations, images = write_test_split(tmp_path / "test", TEST, seed=0)
    test = LabeledSource(annotations=annotations, images=images)
    place = write_images(tmp_path / "fog", NEW, fogged, seed=0)
    second = go_on(place, "retrain.iterations_share=0.5", test=test)
    assert len(Dataset.load(second["prepare"], store).images("test")) == TEST
    check_labelled(first, second, store)
    found = rules(second)
    gain = found["min_gain_over_champion"]["figures"]
    assert gain["images"] == TEST
    assert gain["low"] > 0
    assert found["label_health"]["figures"]["new_empty_rate"] < 0.5
    assert second["register"].facts["verdict"]["passed"]
    assert aliases(client, NAME) == {"champion": "2", "previous": "1"}
    better = read_model(URI, tracking, store)
    assert better != file

    # A hundred images of nothing: refused with figures, and the champion stays.
    third = go_on(write_images(tmp_path / "poison", NEW, noise, seed=1), "retrain.iterations_share=0.05")
    check_labelled(second, third, store)
    health = rules(third)["label_health"]
    assert health["verdict"] == "failed"
    assert health["figures"]["new_empty_rate"] > health["figures"]["max_empty_rate"] == 0.5
    assert not third["register"].facts["verdict"]["passed"]
    assert aliases(client, NAME) == {"champion": "2", "previous": "1", "challenger": "3"}
    assert read_model(URI, tracking, store) == better

    assert Promotion(client, store, NAME).rollback("the lens was cleaned").champion == "1"
    assert read_model(URI, tracking, store) == file, "byte for byte"


def check_labelled(before: dict[str, Manifest], after: dict[str, Manifest], store: ObjectStore) -> None:
    """Exactly the new images got labels of their own; those of the others are the ones that were there."""
    old, new = (load_labels(item["relabel"], store) for item in (before, after))
    assert after["relabel"].metrics["new_images"] == NEW
    assert len(new) == len(old) + NEW
    assert {name: new[name] for name in old} == old
