"""`sskd lineage`: from a registry alias to what is behind it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml
from finished_pipeline import FinishedPipeline

from sskd_core.config.graph import SSKD
from sskd_core.config.loading import read_mapping
from sskd_core.config.tracking import TrackingConfig
from sskd_core.storage.store import ObjectStore
from sskd_core.tracking.candidate import MANIFEST_TAG
from sskd_core.tracking.client import connect
from sskd_core.tracking.registry import Registration, ensure_version
from tests.micro import FILE


@pytest.fixture
def experiment(store: ObjectStore, tracking: TrackingConfig, tmp_path: Path) -> str:
    """A file that names the test's store and MLflow, in which a champion is registered."""
    onnx = FinishedPipeline(store).manifests["export_onnx"]
    tags = {f"{MANIFEST_TAG}onnx": f"{onnx.uri} {onnx.digest}"}
    wanted = Registration(tracking.registered_model, f"{store.root}/m", None, "sha256:1", tags)
    client = connect(tracking, store.config)
    ensure_version(client, wanted)
    client.set_registered_model_alias(tracking.registered_model, "champion", "1")
    own = {"storage": store.config.model_dump(mode="json"), "tracking": tracking.model_dump(mode="json")}
    path = tmp_path / "experiment.yaml"
    path.write_text(yaml.safe_dump(read_mapping(FILE) | own))
    return str(path)


def test_the_champion_is_traced_to_its_images(sskd: Callable, experiment: str):
    answer = json.loads(sskd("lineage", "-e", experiment, "--json").out)
    assert (answer["name"], answer["aliases"]) == ("sskd-student", ["challenger", "champion"])
    assert answer["images"][0]["unlabeled"]["images"] == 60
    shown = sskd("lineage", "-e", experiment).out
    assert "sskd-student version 1 (challenger, champion)" in shown
    assert "120 in" in shown
    graph = [line.split(" <- ") for line in shown.splitlines() if " <- " in line]
    assert graph[0][0].startswith("prepare ")
    assert graph[0][1] == "images"
    digests = {f"{step['stage']} {step['digest'].removeprefix('sha256:')[:12]}": step for step in answer["steps"]}
    assert {target: set(sources.split(", ")) for target, sources in graph[1:]} == {
        name: {other for other, source in digests.items() if source["digest"] in step["inputs"].values()}
        for name, step in digests.items()
        if step["inputs"]
    }


def test_an_alias_that_nothing_has_is_one_line(sskd: Callable, experiment: str):
    done = sskd("lineage", "nobody", "-e", experiment)
    assert done.code == 2
    assert done.err.startswith("error: model 'sskd-student' has no version with the alias 'nobody'")
    assert len(done.err.splitlines()) == 1


def test_the_graph_is_drawn_into_a_page(sskd: Callable, experiment: str, tmp_path: Path):
    page = tmp_path / "lineage.html"
    assert sskd("lineage", "-e", experiment, "--html", str(page)).code == 0
    text = page.read_text()
    root = ElementTree.fromstring(text[text.index("<svg") : text.index("</svg>") + len("</svg>")])
    drawn = [group[2].text for group in root.iter("g")]
    assert drawn[0] == "prepare"
    assert sorted(drawn) == sorted(
        node.stage for node in SSKD if node.name not in ("register", "evaluate", "train_supervised")
    )
    assert "http" not in text.replace("http-equiv", "").replace("http://www.w3.org/2000/svg", "")
    refused = sskd("lineage", "-e", experiment, "--html", str(tmp_path / "no" / "page.html"))
    assert (refused.code, "cannot write" in refused.err) == (2, True)
