"""The table in the terminal shows the figures of results.json."""

from __future__ import annotations

import io

from report_fixtures import AP, PARAMETERS, experiment, finished_run
from rich.console import Console

from sskd_core.reporting.results import MODELS, gather
from sskd_core.reporting.table import results_table
from sskd_core.reporting.words import parameters, points, signed


def _printed(results):
    console = Console(file=io.StringIO(), width=110, color_system=None)
    console.print(results_table(results))
    return console.file.getvalue()


def test_every_row_shows_the_figures_of_the_document():
    run = finished_run()
    results = gather(experiment(), run.manifests, run.read)
    lines = _printed(results).splitlines()
    for name in results.models:
        row = next(line for line in lines if MODELS[name] in line)
        cells = [cell.strip() for cell in row.strip("│").split("│")]
        gain = "" if name == "zero_shot_teacher" else signed(AP[name] - AP["zero_shot_teacher"])
        model = results.models[name]
        figures = [points(model.mask_ap), gain, points(model.mask_ap50), points(model.mask_ap75)]
        assert cells == [MODELS[name], *figures, parameters(PARAMETERS[name])]
    assert "demo: mask AP on test" in lines[0]
    assert "40 test images, hotcoco 1.3.0, cpu, seed 7" in lines[-1]


def test_a_run_without_evaluation_says_so():
    run = finished_run()
    results = gather(experiment(), {"prepare": run.manifests["prepare"]}, run.read)
    text = _printed(results)
    assert "not evaluated yet" in text
    assert "None" not in text
    assert "not finished: adapt_teacher, " in text


def test_markup_in_a_figure_is_shown_and_not_obeyed():
    run = finished_run()
    results = gather(experiment(), run.manifests, run.read).model_copy(update={"evaluator": "[red]evil[/red]"})
    assert "[red]evil[/red]" in _printed(results)
