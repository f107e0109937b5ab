"""Curves as charts."""

from __future__ import annotations

import json

import pytest
from report_fixtures import TRAINED, finished_run

from sskd_core.errors import IntegrityError
from sskd_core.reporting.curves import details, overview, read_curves


@pytest.fixture
def run():
    return finished_run()


def _replace(run, node, content):
    run.objects[run.manifests[node].output("curves").uri] = content


def test_all_training_nodes_share_the_overview(run):
    validation, loss = overview(read_curves(run.manifests, run.read))
    assert validation.legend == loss.legend == ("adapt_teacher", "self_train_teacher", *list(TRAINED)[2:])
    assert validation.svg.count("ring") == len(TRAINED)
    assert "delivered" in validation.note


def test_weights_that_were_not_chosen_on_val_are_not_ringed(run):
    run.manifests = {
        name: item.model_copy(update={"config": {"train": {"select": "last"}}}) if name in TRAINED else item
        for name, item in run.manifests.items()
    }
    validation, _ = overview(read_curves(run.manifests, run.read))
    assert "ring" not in validation.svg
    assert validation.note == ""


def test_details_hold_what_the_overview_does_not(run):
    charts = details(read_curves(run.manifests, run.read))
    assert list(charts) == [name for name in run.manifests if name in TRAINED]
    assert [chart.title for chart in charts["refine"]] == ["Loss terms", "Grad norm"]


def test_the_diagnostics_of_the_contrast_share_charts(run):
    names = ["positive", "negative", "fnr_pred", "margin", "temperature"]
    series = {"loss/pxl": [[1, 0.5]], **{f"contrast_{name}": [[1, 0.1], [2, 0.2]] for name in names}}
    _replace(run, "distill", json.dumps({"series": series}).encode())
    charts = {chart.title: chart for chart in details(read_curves(run.manifests, run.read))["distill"]}
    assert list(charts) == [
        "Loss terms",
        "Similarity of pixels",
        "False negatives",
        "Margin between positives and negatives",
        "Contrast temperature",
    ]
    assert charts["Similarity of pixels"].legend == ("positive", "negative")
    assert charts["False negatives"].legend == ("by prediction",)


def test_long_curves_say_that_they_are_means(run):
    _replace(run, "refine", json.dumps({"series": {"loss/a": [[step, 1.0] for step in range(500)]}}).encode())
    charts = details(read_curves(run.manifests, run.read))
    assert "Means" in charts["refine"][0].note
    assert charts["distill"][0].note == ""


def test_a_node_that_logged_nothing_has_no_chart(run):
    for name in TRAINED:
        _replace(run, name, b'{"series": {}}')
    curves = read_curves(run.manifests, run.read)
    assert overview(curves) == []
    assert details(curves) == {}


def test_values_that_are_not_finite_are_left_out(run):
    _replace(run, "refine", b'{"series": {"loss/total": [[1, NaN], [2, Infinity], [3, 1.5]]}}')
    loss = overview(read_curves(run.manifests, run.read))[1]
    assert "nan" not in loss.svg.lower()
    assert "inf" not in loss.svg.lower()
    assert "refine" in loss.legend


@pytest.mark.parametrize(
    "content",
    [b"no JSON", b"[]", b"{}", b'{"series": []}', b'{"series": {"a": [1]}}', b'{"series": {"a": [["x", 1]]}}'],
)
def test_curves_of_another_shape_are_one_line(run, content):
    _replace(run, "refine", content)
    with pytest.raises(IntegrityError, match=r"refine/curves: holds no curves"):
        read_curves(run.manifests, run.read)
