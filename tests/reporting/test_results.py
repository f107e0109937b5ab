"""Gathering the figures of a run: complete, stable, and honest about what is missing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from report_fixtures import AP, PARAMETERS, experiment, finished_run

from sskd_core.config.graph import SSKD
from sskd_core.errors import IntegrityError
from sskd_core.reporting.results import MODELS, Results, gather

# Written from this run; whoever changes the document's shape writes it anew and raises `schema_version`.
GOLDEN = Path(__file__).parent / "golden" / "results.json"


@pytest.fixture
def run():
    return finished_run()


@pytest.fixture
def results(run):
    return gather(experiment(), run.manifests, run.read)


def test_the_document_is_the_golden_one(results):
    assert results.to_bytes() == GOLDEN.read_bytes()


def test_the_document_reads_back_as_it_was_written(results):
    assert Results.model_validate_json(results.to_bytes()) == results


def test_every_model_has_its_figures(results):
    # The champion is measured in a retrain alone.
    assert list(results.models) == [name for name in MODELS if name != "champion"]
    assert {name: row.mask_ap for name, row in results.models.items()} == AP
    assert {name: row.parameters for name, row in results.models.items()} == PARAMETERS
    assert results.models["refined_student"].per_class == {"disc": 27.125, "box": 28.125, "star": 29.125}


def test_every_stage_has_its_cost_and_manifest(run, results):
    assert list(results.stages) == [node.name for node in SSKD]
    for name, manifest in run.manifests.items():
        cost = results.stages[name]
        assert (cost.manifest, cost.digest) == (manifest.uri, manifest.digest)
        assert cost.finished == manifest.created
        assert (cost.seconds, cost.peak_memory_mb) == (manifest.facts["seconds"], manifest.facts["peak_memory_mb"])
    assert results.seconds == pytest.approx(sum(item.facts["seconds"] for item in run.manifests.values()))
    assert results.peak_memory_mb == max(item.facts["peak_memory_mb"] for item in run.manifests.values())


def test_versions_of_evaluation_and_export_are_one_list(results):
    assert results.versions == {"torch": "2.14.1", "transformers": "5.17.0", "onnxruntime": "1.20.0"}


def test_a_gain_needs_both_models(results):
    assert results.gain("refined_student", "supervised_student") == 27.125 - 17.8
    assert results.gain("refined_student", "unheard_of") is None


@pytest.mark.parametrize("count", range(len(SSKD)))
def test_a_run_that_stopped_is_gathered_as_far_as_it_went(run, count):
    done = {node.name: run.manifests[node.name] for node in SSKD[:count]}
    results = gather(experiment(), done, run.read)
    assert list(results.stages) == list(done)
    assert results.missing == [node.name for node in SSKD[count:]]
    assert results.verdict is None
    json.loads(results.to_bytes(), parse_constant=pytest.fail)


@pytest.mark.parametrize(
    ("node", "content", "reason"),
    [
        ("evaluate", b"no JSON", "Expecting value"),
        ("evaluate", b'{"split": "test"}', "no 'models'"),
        ("evaluate", b'{"models": {"refined_student": {"mask_ap": 1.0}}}', "no 'mask_ap50'"),
        (
            "evaluate",
            b'{"models": {"refined_student": {"mask_ap": "high", "mask_ap50": 1, "mask_ap75": 1, "parameters": 1, '
            b'"per_class": {}}}}',
            "'mask_ap': Input should be a valid number",
        ),
    ],
)
def test_an_evaluation_of_another_shape_is_one_line(run, node, content, reason):
    run.objects[run.manifests[node].output("evaluation").uri] = content
    with pytest.raises(IntegrityError) as error:
        gather(experiment(), run.manifests, run.read)
    assert reason in str(error.value)
    assert str(error.value).startswith(run.manifests[node].uri)
    assert "\n" not in str(error.value)


def test_a_manifest_without_its_cost_is_one_line(run):
    bare = run.manifests["refine"].model_copy(update={"facts": {}})
    with pytest.raises(IntegrityError, match=r"refine/manifest\.json: not a result of stage 'refine': no 'seconds'"):
        gather(experiment(), {**run.manifests, "refine": bare}, run.read)
