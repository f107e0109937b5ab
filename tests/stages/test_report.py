"""The report stage on a real store."""

from __future__ import annotations

import pytest
from report_fixtures import experiment, finished_run

from sskd_core.errors import IntegrityError
from sskd_core.progress import Progress
from sskd_core.reporting.results import Results, gather
from sskd_core.stages import report
from sskd_core.stages.contract import StageContext, execute, stage_fingerprint, stage_prefix
from sskd_core.tracking.run import NullRun


@pytest.fixture
def run(store):
    """A finished run whose outputs are in the store."""
    run = finished_run(root=store.root)
    for uri, data in run.objects.items():
        store.put(uri, data)
    return run


@pytest.fixture
def draw(store, tmp_path):
    """Returns a function that runs the stage as the pipeline does."""

    def draw(manifests):
        config = experiment()
        identity = stage_fingerprint("report", config, manifests)
        prefix = stage_prefix(store, "report", identity)
        context = StageContext(store, NullRun(), Progress("report", tmp_path), prefix, tmp_path, identity)
        return execute("report", report.run, config, manifests, context, reuse=False)

    return draw


def test_it_writes_the_figures_and_the_page(run, draw, store):
    manifest = draw(run.manifests)
    assert [(item.name, item.media_type) for item in manifest.outputs] == [
        ("results", "application/json"),
        ("report", "text/html"),
    ]
    results = Results.model_validate_json(store.read(manifest.output("results")))
    assert results == gather(experiment(), run.manifests, run.read)
    page = store.read(manifest.output("report")).decode()
    assert page.startswith("<!doctype html>")
    assert page.rstrip().endswith("</html>")
    assert manifest.licences == ["Apache-2.0", "BSD-3-Clause"]


def test_drawn_again_it_is_the_same(run, draw):
    first, second = draw(run.manifests), draw(run.manifests)
    assert [item.digest for item in first.outputs] == [item.digest for item in second.outputs]


def test_a_run_that_stopped_has_a_report(run, draw, store):
    manifest = draw({name: run.manifests[name] for name in ("prepare", "adapt_teacher")})
    results = Results.model_validate_json(store.read(manifest.output("results")))
    assert results.missing[0] == "pseudo_label"
    assert b"This run is not complete" in store.read(manifest.output("report"))


def test_bytes_that_changed_are_refused_and_nothing_is_written(run, draw, store):
    overlay = run.manifests["evaluate"].output("overlays/01")
    store.put(overlay.uri, b"other bytes")
    with pytest.raises(IntegrityError, match="overlays/01"):
        draw(run.manifests)
    assert list(store.list(f"{store.root}/stages/report")) == []
