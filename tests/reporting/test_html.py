"""The page: complete, self-contained, safe with any name, the same bytes for the same run."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest
from report_fixtures import CLASSES, experiment, finished_run

from sskd_core.config.graph import SSKD
from sskd_core.reporting.html import per_class, render_report
from sskd_core.reporting.results import MODELS, gather
from sskd_core.reporting.words import clock, parameters, points, signed

VOID = {"meta", "link", "img", "br"}
HOSTILE = ("<script>alert(1)</script>", '"><img src=x onerror=alert(2)>', "{{ 7 * 7 }}", "\x1b[31m& <b>")


class Page(HTMLParser):
    """A page as a list of elements, and its tables as rows of text; refuses what is not well nested."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.tables: list[list[list[str]]] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if {"td", "th"} & set(self._open):
            self.tables[-1][-1][-1] += data

    def attributes(self, name: str) -> list[str | None]:
        """Return all values of an attribute."""
        return [values[name] for _, values in self.tags if name in values]

    def table(self, first: str) -> list[list[str]]:
        """Return the body of the table whose first heading is `first`."""
        return next(rows[1:] for rows in self.tables if rows and rows[0][0] == first)


def _page(run, manifests=None, config=None) -> Page:
    config = config or experiment()
    manifests = run.manifests if manifests is None else manifests
    return Page(render_report(config, gather(config, manifests, run.read), manifests, run.read))


@pytest.fixture
def run():
    return finished_run()


@pytest.fixture(scope="module")
def page():
    return _page(finished_run())


def test_the_result_table_shows_the_figures_of_the_document(run, page):
    results = gather(experiment(), run.manifests, run.read)
    for name, row in zip(results.models, page.table("Model"), strict=True):
        model = results.models[name]
        gain = "" if name == "zero_shot_teacher" else signed(results.gain(name, "zero_shot_teacher"))
        figures = [points(model.mask_ap), "", gain, points(model.mask_ap50), points(model.mask_ap75)]
        assert row == [MODELS[name], *figures, parameters(model.parameters)]


def test_the_class_table_shows_the_figures_of_the_document(run, page):
    models = gather(experiment(), run.manifests, run.read).models.values()
    rows = {row[0]: row[1:] for row in page.table("Class")}
    assert rows == {name: [points(model.per_class[name]) for model in models] for name in CLASSES}


def test_the_stage_table_shows_the_figures_of_the_document(run, page):
    results = gather(experiment(), run.manifests, run.read)
    assert page.table("Stage") == [
        [name, clock(cost.seconds), "", f"{cost.peak_memory_mb:,.0f}", ""] for name, cost in results.stages.items()
    ]
    for cost in results.stages.values():
        assert cost.digest in page.text
        assert cost.manifest in page.text


def test_the_table_of_files_shows_what_each_costs_and_why_one_is_not_delivered(page):
    assert page.table("Precision") == [
        ["fp32", "3.0 MiB", "27.1", "0.00", "1.9e-05", "1.9e-05", "12.0", "12.5", "yes: loses 0.00 AP"],
        ["int8_static", "1.0 MiB", "26.4", "0.75", "not a number", "not a number", "5.0", "5.5", "no: loses 0.75 AP"],
    ]
    assert "onnxruntime 1.20.0, CPUExecutionProvider, x86_64, one image a run" in page.text


def test_a_class_that_the_split_does_not_have_is_a_dash(run):
    results = gather(experiment(), run.manifests, run.read)
    absent = {name: row.model_copy(update={"per_class": {"disc": None}}) for name, row in results.models.items()}
    assert per_class(results.model_copy(update={"models": absent})) == [("disc", [None] * 5, None)]


def test_nothing_is_loaded_from_anywhere(page):
    assert {tag for tag, _ in page.tags} & {"script", "iframe", "object", "embed", "base", "form"} == set()
    assert all(value.startswith("data:image/jpeg;base64,") for value in page.attributes("src"))
    assert all(value == "data:," or value.startswith("#") for value in page.attributes("href"))
    assert not any(name.startswith("on") or name in ("srcset", "action") for _, values in page.tags for name in values)
    assert not re.search(r"url\(|@import|javascript:", page.text)
    policy = next(values["content"] for _, values in page.tags if values.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none';")


def test_a_reader_without_eyes_finds_the_way(page):
    images = [values for tag, values in page.tags if tag == "img"]
    assert images
    assert all(values["alt"] for values in images)
    assert all(values.get("aria-label") or values.get("aria-hidden") for tag, values in page.tags if tag == "svg")
    assert all(values.get("scope") in ("row", "col") for tag, values in page.tags if tag == "th")
    assert [tag for tag, _ in page.tags].count("h1") == 1
    ids = page.attributes("id")
    assert len(set(ids)) == len(ids)
    assert {value[1:] for value in page.attributes("href") if value.startswith("#")} <= set(ids)
    assert set(page.attributes("aria-labelledby")) <= set(ids)


def test_every_drawing_is_well_formed(page):
    drawings = re.findall(r"<svg.*?</svg>", page.text, re.DOTALL)
    assert len(drawings) > 10
    for drawing in drawings:
        ElementTree.fromstring(drawing)


def test_equal_runs_give_equal_bytes(run, page):
    assert _page(run).text == page.text


@pytest.mark.parametrize("count", range(len(SSKD)))
def test_a_run_that_stopped_shows_what_it_has_and_names_the_rest(run, count):
    done = {node.name: run.manifests[node.name] for node in SSKD[:count]}
    page = _page(run, done)
    assert f"No result of {', '.join(node.name for node in SSKD[count:])}." in page.text
    assert [row[0] for row in page.table("Stage")] == [node.name for node in SSKD]
    ids = page.attributes("id")
    assert {value[1:] for value in page.attributes("href") if value.startswith("#")} <= set(ids)
    assert ("training" in ids) == (count > 1)
    assert ("labels" in ids) == (count > 2)


@pytest.mark.parametrize("node", [node.name for node in SSKD])
def test_any_single_manifest_may_be_missing(run, node):
    page = _page(run, {name: item for name, item in run.manifests.items() if name != node})
    assert f"No result of {node}." in page.text


def test_a_complete_run_has_no_banner(page):
    assert "not complete" not in page.text


def test_no_name_becomes_markup():
    run = finished_run(HOSTILE)
    gate = {"passed": False, "rules": [{"name": HOSTILE[0], "verdict": "failed", "figures": {}, "reason": HOSTILE[1]}]}
    named = {"verdict": gate, "registered_model": HOSTILE[1], "version": HOSTILE[0], "alias": HOSTILE[0]}
    register = run.manifests["register"]
    changed = {"facts": {**register.facts, **named}, "licences": list(HOSTILE), "uri": f"s3://b/{HOSTILE[0]}"}
    page = _page(run, {**run.manifests, "register": register.model_copy(update=changed)})
    tags = {tag for tag, _ in page.tags}
    assert "script" not in tags
    assert "b" not in tags
    assert not any("onerror" in values for _, values in page.tags)
    assert {row[0] for row in page.table("Class")} == set(HOSTILE)
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page.text
    for drawing in re.findall(r"<svg.*?</svg>", page.text, re.DOTALL):
        ElementTree.fromstring(drawing)


def test_a_failed_gate_is_told_in_words(run):
    rule = {
        "name": "min_mask_ap",
        "verdict": "failed",
        "figures": {},
        "reason": "2.0 mask AP stays below the floor of 5.0",
    }
    register = run.manifests["register"]
    facts = {**register.facts, "verdict": {"passed": False, "rules": [rule]}}
    page = _page(run, {**run.manifests, "register": register.model_copy(update={"facts": facts})})
    assert page.table("Rule") == [["min_mask_ap", "✕ failed", "2.0 mask AP stays below the floor of 5.0"]]
    assert "registered as rejected; no alias moved" in page.text


def test_credentials_in_the_configuration_are_not_shown(run):
    teacher = {"family": "mask2former", "weights": "https://user:pass-word@models.example/path"}
    page = _page(run, config=experiment(teacher=teacher))
    assert "pass-word" not in page.text
    assert "models.example/path" in page.text


def test_it_reads_nothing_but_what_it_shows(run):
    run.reads.clear()
    _page(run)
    assert not any(uri.endswith(("/onnx", "manifest.json")) for uri in run.reads)
    assert sum("overlays" in uri for uri in run.reads) == 2
