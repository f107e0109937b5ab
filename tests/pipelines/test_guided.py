"""The guided pipeline is the graph that the configuration declares, with a form of its own."""

from __future__ import annotations

import pytest
import yaml

from pipelines import local
from pipelines.cluster import ClusterConfig
from pipelines.compile import compile_pipeline
from pipelines.guided import build
from sskd_core.config.graph import GUIDED
from sskd_core.config.parameters import GUIDED_PARAMETERS
from tests.compiled_pipeline import graph_of, inside, leaves


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> str:
    target = tmp_path_factory.mktemp("compiled") / "guided.yaml"
    compile_pipeline(target, ClusterConfig(), {}, "guided")
    return target.read_text(encoding="utf-8")


def test_the_graph_is_that_of_the_nodes(text: str):
    document = next(yaml.safe_load_all(text))
    graph = graph_of(document)
    assert graph.pop("configure") == {}
    assert graph == {node.name: dict(node.inputs) for node in GUIDED}
    assert document["pipelineInfo"]["name"] == "guided"
    assert set(leaves(document)) == {"configure", "report", *(node.name for node in GUIDED)}


def test_the_form_asks_for_what_the_method_has(text: str):
    form = next(yaml.safe_load_all(text))["root"]["inputDefinitions"]["parameters"]
    assert set(form) == {item.name for item in GUIDED_PARAMETERS}
    assert {"burn_in", "lambda_u", "class_threshold"} <= form.keys()
    assert not {"student_encoder", "refine_iterations", "method"} & form.keys()
    assert form["experiment"]["defaultValue"] == "{preset: demo_guided, data: {}}"


def test_configure_knows_the_method_and_gets_no_field_of_another(text: str):
    given = inside(next(yaml.safe_load_all(text)), "prepare")["configure"]["inputs"]["parameters"]
    assert given["method"]["runtimeValue"]["constant"] == "guided"
    assert set(given) == {"method", "run_id", "secrets", *(item.name for item in GUIDED_PARAMETERS)}


def test_the_local_runner_leaves_out_the_settings_of_other_methods():
    """KFP's would hand on None for them, and fail at whole numbers."""
    spec = build(ClusterConfig()).pipeline_spec
    assert "refine_iterations" in spec.components["comp-configure"].input_definitions.parameters
    local._leave_out_what_nobody_gives(spec)
    left = spec.components["comp-configure"].input_definitions.parameters
    assert {"seed", "adapt_iterations", "distill_iterations"} <= set(left)
    assert not {"refine_iterations", "label_workers"} & set(left)
