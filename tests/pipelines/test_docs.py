"""The page on pipelines explains what there is."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from pipelines.cluster import ClusterConfig, load_cluster
from sskd_core.config.graph import SSKD
from sskd_core.config.parameters import EVERY_PARAMETER, METHOD

DOCS = Path(__file__).parents[2] / "docs"
SVG = "{http://www.w3.org/2000/svg}"
PAGE = (DOCS / "pipelines.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("parameter", [item for item in EVERY_PARAMETER if item != METHOD], ids=lambda item: item.name)
def test_every_field_of_the_form_is_explained(parameter):
    (row,) = [line for line in PAGE.splitlines() if line.startswith(f"| `{parameter.name}` |")]
    assert parameter.meaning in row
    assert not parameter.path or f"`{parameter.path}`" in row


def test_the_platform_s_file_on_the_page_is_one(tmp_path: Path):
    (text,) = [part.split("```")[0] for part in PAGE.split("```yaml\n")[1:]]
    path = tmp_path / "cluster.yaml"
    path.write_text(text.replace("sha256:…", "sha256:" + "0" * 64), encoding="utf-8")
    cluster = load_cluster(path)
    assert cluster.by_digest
    assert cluster.tier("gpu", "distill").gpus == 4
    assert set(ClusterConfig.model_fields) == cluster.model_fields_set | {"light", "cpu"}


def test_the_picture_shows_every_node():
    root = ElementTree.parse(DOCS / "images" / "pipeline.svg").getroot()
    words = {item.text for item in root.iter(f"{SVG}text")}
    assert {"configure", "report", *(node.name for node in SSKD)} <= words


def test_the_picture_s_arrows_are_the_graph_s():
    """But for what nearly all read: the experiment, and the index of `prepare`."""
    root = ElementTree.parse(DOCS / "images" / "pipeline.svg").getroot()
    drawn = [item.attrib["data-edge"] for item in root.iter(f"{SVG}path") if "data-edge" in item.attrib]
    wired = [(source, node) for node in SSKD for source in node.inputs.values()]
    wanted = [f"{source} {node.name}" for source, node in wired if source != "prepare" or len(node.inputs) == 1]
    assert sorted(drawn) == sorted(["configure prepare", *wanted])
