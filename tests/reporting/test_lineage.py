"""The lineage follows digests."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest
from report_fixtures import finished_run

from sskd_core.config.graph import SSKD
from sskd_core.reporting.graph import Edge
from sskd_core.reporting.lineage import edges, lineage_picture
from sskd_core.storage.digest import digest_json


@pytest.fixture
def run():
    return finished_run()


def test_every_input_of_every_node_is_an_edge(run):
    expected = {Edge(source, node.name, True) for node in SSKD for source in node.inputs.values()}
    assert set(edges(run.manifests, SSKD)) == expected


def test_an_input_that_is_not_what_is_shown_has_no_edge(run):
    refine = run.manifests["refine"]
    other = refine.inputs["student"].model_copy(update={"digest": digest_json("another student")})
    changed = refine.model_copy(update={"inputs": {**refine.inputs, "student": other}})
    found = edges({**run.manifests, "refine": changed}, SSKD)
    assert Edge("prepare", "refine", True) in found
    assert not any(edge.source == "distill" and edge.target == "refine" for edge in found)


def test_what_is_not_finished_is_pending(run):
    done = {node.name: run.manifests[node.name] for node in SSKD[:7]}
    found = edges(done, SSKD)
    assert Edge("distill", "refine", False) in found
    assert Edge("relabel", "distill", True) in found
    root = ElementTree.fromstring(lineage_picture(done, SSKD))
    states = {group[2].text: (group.get("class"), group[3].text) for group in root.iter("g")}
    assert states["refine"] == ("node pending", "not finished")
    assert states["distill"][0] == "node"


def test_the_picture_names_all_nodes_with_digests(run):
    root = ElementTree.fromstring(lineage_picture(run.manifests, SSKD))
    boxes = {group[2].text: group[3].text for group in root.iter("g")}
    assert list(boxes) == [node.name for node in SSKD]
    assert boxes["refine"] == run.manifests["refine"].digest[7:19]
    assert "register reads prepare, refine, evaluate, export_onnx" in root.get("aria-label")
    arcs = [path for path in root.iter("path") if path.get("class") == "arc made"]
    assert len(arcs) == sum(source != "prepare" for node in SSKD for source in node.inputs.values())


def test_arcs_stay_inside_the_picture():
    arcs = [path.get("d") for path in ElementTree.fromstring(lineage_picture({}, SSKD)).iter("path")]
    curves = [[float(number) for number in re.findall(r"-?[0-9.]+", path)] for path in arcs if "C" in path]
    assert len(curves) == sum(len(node.inputs) for node in SSKD)
    for start, _, first, _, second, _, end, _ in curves:
        assert (start + 3 * first + 3 * second + end) / 8 >= 0


def test_a_run_without_any_manifest_is_drawn():
    root = ElementTree.fromstring(lineage_picture({}, SSKD))
    assert {group.get("class") for group in root.iter("g")} == {"node pending"}
