"""Going on from a champion with tiny networks and real parts: what is new, what stands, what is refused.

The figures mean nothing here; that a retrain makes a better model is `test_retrain_story`.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from in_process import run_pipeline
from PIL import Image

from sskd_core.config.assemble import assemble
from sskd_core.config.base import validate
from sskd_core.config.experiment import ExperimentConfig
from sskd_core.config.loading import read_mapping
from sskd_core.config.storage import StorageConfig
from sskd_core.config.tracking import TrackingConfig
from sskd_core.data.dataset import Dataset
from sskd_core.data.scenes import render_scene
from sskd_core.errors import UserError
from sskd_core.labels.store import label_shards, load_labels
from sskd_core.retraining.plan import Plan
from sskd_core.retraining.request import Retrain, RetrainRequest
from sskd_core.stages.finished import finished_nodes
from sskd_core.storage.manifest import Manifest
from sskd_core.storage.store import ObjectStore
from sskd_core.tracking.client import connect
from sskd_core.tracking.embedded import embedded_uri
from sskd_core.tracking.lineage import version_lineage
from sskd_core.tracking.promotion import Promotion
from sskd_core.tracking.registry import aliases, read_model
from tests.kfp_server import kfp_server
from tests.micro import FILE, SIZES, micro_data

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
SSKD = str(Path(sys.executable).parent / "sskd")
NEW = 5
NAME = "sskd-student"
REFUSED = "stages.gate.min_mask_ap=100"
"""Leaves the champion as it is, for the tests that follow."""
URI = "models:/sskd-student@champion"
# A few steps teach nothing, so figures cannot promote here: this gate lets pass what is not far worse.
LENIENT = {"min_gain_over_supervised": -100.0, "min_gain_over_champion": -100.0}


def put_scenes(folder: Path, count: int, first: int = 0) -> None:
    """Write scenes of another look: those of the target domain, darker and green."""
    folder.mkdir(exist_ok=True)
    for index in range(first, first + count):
        image = render_scene(9, "target", "new", index).image * np.array([0.5, 0.8, 0.5])
        Image.fromarray(image.astype(np.uint8)).save(folder / f"{index:03d}.png")


@dataclass(frozen=True)
class Trained:
    """A champion, version 1, and what made it. Tests that run a pipeline leave version 1 champion."""

    base: ExperimentConfig
    store: ObjectStore
    first: dict[str, Manifest]


@pytest.fixture(scope="module")
def trained(
    s3_endpoint: StorageConfig, migrated_mlflow: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Trained]:
    folder = tmp_path_factory.mktemp("champion")
    with pytest.MonkeyPatch.context() as monkeypatch:
        for name in [name for name in os.environ if name.startswith("MLFLOW_")]:
            monkeypatch.delenv(name)
        shutil.copy(migrated_mlflow, folder / "mlflow.db")
        root, cache = f"{s3_endpoint.root}/retrain-{uuid.uuid4().hex}", str(folder / "cache")
        store = ObjectStore(s3_endpoint.model_copy(update={"root": root, "cache_dir": cache}))
        values = read_mapping(FILE)
        values["stages"]["gate"] = LENIENT
        values["stages"]["export_onnx"] |= {"variants": [], "latency_runs": 1, "failure_images": 0}
        tracking = TrackingConfig(uri=embedded_uri(folder))
        own = {"storage": store.config, "data": micro_data(store), "tracking": tracking}
        base = validate(ExperimentConfig, values | own, str(FILE))
        yield Trained(base, store, run_pipeline(base))


def going_on(trained: Trained, *places: Path | str, write: bool = True, **values: Any) -> tuple[Plan, ExperimentConfig]:
    request = RetrainRequest(unlabeled=[str(place) for place in places], model="1", base=trained.base, **values)
    return Retrain(request, trained.base.tracking, trained.store).prepare(write)


def states(plan: Plan) -> dict[str, str]:
    return {step.node: step.state for step in plan.steps}


def test_what_is_new_is_labelled_and_what_holds_stands(trained: Trained, tmp_path: Path):
    base, store, first = trained.base, trained.store, trained.first
    client = connect(base.tracking, store.config)
    assert aliases(client, NAME)["champion"] == "1"
    file = read_model(URI, base.tracking, store)

    # New images arrive, among them a copy and a renamed one, and some that are none.
    place = tmp_path / "camera"
    put_scenes(place, NEW)
    (place / "copy.png").write_bytes((place / "000.png").read_bytes())
    known = Dataset.load(first["prepare"], store).images("unlabeled")[0]
    (place / "renamed.jpg").write_bytes(store.get(known.uri))
    (place / "broken.png").write_bytes(b"not an image")
    (place / "notes.txt").write_text("taken at dusk")

    before = {item.uri for item in store.list(store.root)}
    plan, planned = going_on(trained, place, write=False)
    assert {item.uri for item in store.list(store.root)} == before, "a plan writes nothing"
    assert (plan.new, plan.known, plan.copies, len(plan.unreadable), len(plan.others)) == (NEW, 1, 1, 1, 1)
    stands = {"adapt_teacher", "pseudo_label", "self_train_teacher", "train_supervised"}
    assert {node for node, state in states(plan).items() if state == "stands"} == stands
    assert {state for node, state in states(plan).items() if node not in stands} == {"to run"}
    assert plan.seconds > 0

    plan, experiment = going_on(trained, place)
    assert experiment == planned
    second = run_pipeline(experiment)
    check_labels(first, second, store)
    assert finished_nodes(experiment, store) == second, "which is what the report is about"
    assert second["distill"].inputs["student"].digest == first["refine"].digest
    gain = next(r for r in second["register"].facts["verdict"]["rules"] if r["name"] == "min_gain_over_champion")
    assert gain["figures"]["images"] == SIZES.test
    version = second["register"].facts["version"]
    assert {"champion": version, "previous": "1"}.items() <= aliases(client, NAME).items()
    assert read_model(URI, base.tracking, store) != file
    behind = {step.uri for step in version_lineage(base.tracking, store).steps}
    assert {first["refine"].uri, first["prepare"].uri, second["refine"].uri} <= behind

    # The same places again: nothing is new, and the command says so.
    file_of_base = tmp_path / "base.json"
    file_of_base.write_text(base.model_dump_json())
    command = [SSKD, "retrain", "--unlabeled", str(place), "-e", str(file_of_base), "--state-dir", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    counts = f"0 new images, {NEW + 2} known, 0 copies, 1 unreadable, 1 not images by name"
    assert done.stdout.splitlines()[-1] == f"nothing new, so there is nothing to do: {counts}"
    assert [line.partition(":")[0] for line in done.stdout.splitlines()[:-1]] == ["unreadable", "no image's name"]

    assert Promotion(client, store, NAME).rollback().champion == "1"
    assert read_model(URI, base.tracking, store) == file, "byte for byte"


def test_watching_goes_on_when_nothing_is_new_and_ends_when_told(trained: Trained, tmp_path: Path):
    known = Dataset.load(trained.first["prepare"], trained.store).images("unlabeled")[0]
    place, own = tmp_path / "camera", tmp_path / "base.json"
    place.mkdir()
    (place / "a.png").write_bytes(trained.store.get(known.uri))
    own.write_text(trained.base.model_dump_json())
    command = [SSKD, "retrain", "--watch", "--unlabeled", str(place), "-e", str(own), "--state-dir", str(tmp_path)]
    command += ["--set", "retrain.quiet_seconds=0", "--set", "retrain.poll_seconds=0.05"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert "0 new images, 1 known, 0 copies" in process.stdout.readline()
            (place / "b.png").write_bytes(trained.store.get(known.uri))
            assert "0 new images, 2 known, 0 copies" in process.stdout.readline()
            process.terminate()
            assert process.wait() == 143
        finally:
            process.kill()


def test_a_retrain_goes_to_a_cluster_with_what_stands(trained: Trained, tmp_path: Path):
    store = trained.store
    for index in range(NEW):
        image = Image.fromarray(render_scene(9, "target", "new", index).image)
        with io.BytesIO() as file:
            image.save(file, format="PNG")
            store.put(f"{store.root}/arrived/{index}.png", file.getvalue())
    own = tmp_path / "base.json"
    own.write_text(trained.base.model_dump_json())
    place, image_name = f"{store.root}/arrived", "registry.example/sskd@sha256:" + "0" * 64
    with kfp_server() as server:
        command = [SSKD, "retrain", "--submit", "--unlabeled", place, "-e", str(own), "--host", server.host, "--json"]
        command += ["--image", image_name, "--service-account", "runner", "--state-dir", str(tmp_path)]
        done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["run"] == "run-0"
    (run,) = server.runs.values()
    assert server.problems == []
    assert run.service_account == "runner"
    _, planned = going_on(trained, place, write=False)
    sent = assemble(run.runtime_config.parameters)
    assert sent == planned
    assert set(sent.takes_over.results) >= {"adapt_teacher", "train_supervised"}


def check_labels(first: dict[str, Manifest], second: dict[str, Manifest], store: ObjectStore) -> None:
    """The old labels stand as they lie; exactly the new images got labels of their own."""
    old, new = (label_shards(item["relabel"], store) for item in (first, second))
    assert [(ref.uri, ref.digest) for ref in new[: len(old)]] == [(ref.uri, ref.digest) for ref in old]
    assert second["relabel"].metrics["new_images"] == NEW
    labels = load_labels(second["relabel"], store)
    added = set(labels) - set(load_labels(first["relabel"], store))
    assert len(added) == NEW
    assert all(name.startswith("+1/0/") for name in added)
    images = Dataset.load(second["prepare"], store).images("unlabeled")
    assert [image.image_id for image in images] == list(labels)


def test_a_teacher_that_is_adapted_goes_on_from_the_champion_s(trained: Trained, tmp_path: Path):
    put_scenes(tmp_path / "camera", 2)
    overrides = ["retrain.teacher=adapt", "retrain.student=restart", REFUSED]
    plan, experiment = going_on(trained, tmp_path / "camera", overrides=overrides)
    assert {node for node, state in states(plan).items() if state == "stands"} == {"adapt_teacher", "train_supervised"}
    second = run_pipeline(experiment)
    assert second["self_train_teacher"].inputs["student"].digest == trained.first["self_train_teacher"].digest
    assert second["pseudo_label"].metrics["new_images"] == 2
    assert "new_images" not in second["relabel"].metrics
    assert second["relabel"].metrics["images"] == SIZES.unlabeled + 2
    assert "student" not in second["distill"].inputs
    assert second["distill"].config["train"] == trained.first["distill"].config["train"]


def test_new_annotations_join_and_a_new_test_split_is_met_by_both(trained: Trained, tmp_path: Path):
    store, first = trained.store, trained.first
    more = micro_data(store, seed=5)
    empty = tmp_path / "empty"
    empty.mkdir()
    plan, experiment = going_on(trained, empty, labeled=[more.labeled], test=more.test, overrides=[REFUSED])
    assert (plan.new, plan.labeled, plan.is_worth(1)) == (0, 2, True)
    second = run_pipeline(experiment)
    old, new = (Dataset.load(item["prepare"], store) for item in (first, second))
    assert [image.image_id for image in new.images("labeled")][: SIZES.labeled] == [
        image.image_id for image in old.images("labeled")
    ]
    assert len(new.images("labeled")) == 2 * SIZES.labeled
    assert {image.digest for image in new.images("test")}.isdisjoint(image.digest for image in old.images("test"))
    assert new.images("val") == old.images("val")
    assert second["train_supervised"].inputs["data"].digest == second["prepare"].digest
    same = next(r for r in second["register"].facts["verdict"]["rules"] if r["name"] == "same_test_and_evaluator")
    assert same["verdict"] == "passed"


@pytest.mark.parametrize(("node", "output"), [("self_train_teacher", "model/model.safetensors"), ("distill", None)])
def test_a_champion_that_lost_something_is_refused_with_digests(
    trained: Trained, tmp_path: Path, node: str, output: str | None
):
    lost = trained.first[node] if output is None else trained.first[node].output(output)
    store = trained.store
    digest, kept = lost.digest, store.get(lost.uri)
    try:
        store.delete(lost.uri)
        with pytest.raises(UserError, match=f"cannot go on from version 1 .*{digest}"):
            going_on(trained, tmp_path)
        store.put(lost.uri, kept + b" ")
        with pytest.raises(UserError, match=f"cannot go on from version 1 .*expected {digest}"):
            going_on(trained, tmp_path)
    finally:
        store.put(lost.uri, kept)
