"""Figures as words."""

from __future__ import annotations

import pytest
from report_fixtures import experiment, finished_run

from sskd_core.config.graph import SSKD
from sskd_core.reporting import words
from sskd_core.reporting.results import gather


@pytest.fixture
def results():
    run = finished_run()
    return gather(experiment(), run.manifests, run.read)


@pytest.mark.parametrize(
    ("function", "value", "text"),
    [
        (words.points, 27.14, "27.1"),
        (words.points, None, "\N{EN DASH}"),
        (words.signed, 9.34, "+9.3"),
        (words.signed, -0.42, "\N{MINUS SIGN}0.4"),
        (words.signed, 0.0, "+0.0"),
        (words.signed, None, ""),
        (words.parameters, 811_776, "0.81 M"),
        (words.parameters, 45_400, "45 k"),
        (words.size, 3 << 20, "3.0 MiB"),
        (words.clock, 412.4, "0:06:52"),
        (words.short_digest, "sha256:" + "ab" * 32, "abababababab"),
    ],
)
def test_figures(function, value, text):
    assert function(value) == text


def test_the_summary_says_size_result_comparison_and_verdict(results):
    assert words.summary(results) == (
        "The refined student (0.81 M parameters, 25% of its teacher's) reaches 27.1 mask AP on test: "
        "+9.3 over the same network trained on the labelled images alone, +12.4 over the zero-shot teacher and "
        "\N{MINUS SIGN}1.8 against the adapted teacher. The gate passed: version 3 of sskd-student is champion."
    )


def test_the_summary_does_not_promise_an_alias_that_did_not_move(results):
    failed = results.model_copy(update={"verdict": {"passed": False, "rules": []}})
    assert words.summary(failed).endswith("The gate did not pass, so no alias moved.")
    untracked = results.model_copy(update={"version": None})
    assert words.summary(untracked).endswith("The gate passed; tracking is off, so nothing was registered.")
    assert "gate" not in words.summary(results.model_copy(update={"verdict": None}))


def test_the_summary_compares_only_with_what_was_evaluated(results):
    alone = results.model_copy(update={"models": {"refined_student": results.models["refined_student"]}})
    assert words.summary(alone).startswith("The refined student (0.81 M parameters) reaches 27.1 mask AP on test. ")


def test_the_summary_of_a_run_that_stopped_names_the_next_stage():
    run = finished_run()
    done = {node.name: run.manifests[node.name] for node in SSKD[:6]}
    assert words.summary(gather(experiment(), done, run.read)) == (
        "The run has not reached its evaluation: 6 of 11 stages are finished, the next is distill."
    )
