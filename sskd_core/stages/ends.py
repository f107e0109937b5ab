"""The two ends of a pipeline as its components call them: `configure` before all stages, `report` after all of them."""

from __future__ import annotations

import html
import os
from collections.abc import Mapping
from typing import Any

from sskd_core.config.assemble import storage_section
from sskd_core.config.base import validate
from sskd_core.config.experiment import ExperimentConfig
from sskd_core.config.graph import training_nodes
from sskd_core.config.storage import StorageConfig
from sskd_core.reporting.markdown import render_refusal, render_summary
from sskd_core.reporting.results import Results
from sskd_core.stages.component import STOP_VARIABLE, exit_codes, write_file
from sskd_core.stages.configure import configure, kept_experiment
from sskd_core.stages.entry import SHARED_VARIABLE, run_node
from sskd_core.stages.finished import finished_nodes
from sskd_core.storage.manifest import Manifest
from sskd_core.storage.store import ObjectStore


def run_configure(
    values: Mapping[str, Any], run_id: str, secrets: Mapping[str, str], resolved_path: str, plan_path: str
) -> list[int]:
    """Check a run's parameters and services.

    Args:
        values: the form, see `sskd_core.config.parameters`.
        run_id: of the orchestrator's run.
        secrets: environment variable -> `secret/key`.
        resolved_path: file for the experiment as JSON text.
        plan_path: file for what will be done, as Markdown.

    Returns:
        The numbers of the labelling workers.

    Raises:
        SystemExit: 2 after a user error, 143 when stopped.
    """
    with exit_codes():
        # On one machine the command that started the runner has just used the same services.
        experiment = configure(values, run_id, secrets, check=not os.environ.get(SHARED_VARIABLE))
    write_file(resolved_path, experiment.model_dump_json().encode())
    write_file(plan_path, _plan(experiment).encode())
    return list(range(experiment.label_workers))


def run_report(
    values: Mapping[str, Any],
    run_id: str,
    state: str,
    problem: str,
    manifest_path: str,
    page_path: str,
    summary_path: str,
) -> None:
    """Report on a run, however it ended. Page and summary are written in any case.

    Args:
        values: the parameters that say where the store is.
        run_id: as for `run_configure`.
        state: how the orchestrator says that the run ended, such as `FAILED`.
        problem: its error message, or empty.
        manifest_path: file for the manifest of the report; not written when there is nothing to report.
        page_path: file for the HTML page.
        summary_path: file for the Markdown summary.

    Raises:
        SystemExit: 2 when the store or what is in it cannot be read.
    """
    # A run that was told to stop is reported as well.
    os.environ.pop(STOP_VARIABLE, None)
    with exit_codes():
        try:
            summary, page = _report(values, run_id, state, problem, manifest_path)
        except Exception as error:  # a page in any case, then the error goes its way
            summary = render_refusal(state, "\n".join(line for line in (problem, str(error)) if line))
            _write_pages(summary, _plain_page(summary), page_path, summary_path)
            raise
    _write_pages(summary, page, page_path, summary_path)


def _report(values: Mapping[str, Any], run_id: str, state: str, problem: str, manifest_path: str) -> tuple[str, bytes]:
    """Return the summary and the page."""
    storage = validate(StorageConfig, storage_section(values), "the pipeline's parameters: storage")
    store = ObjectStore(storage)
    experiment = kept_experiment(store, run_id)
    if experiment is None:
        summary = render_refusal(state, problem)
        return summary, _plain_page(summary)
    store = ObjectStore(experiment.storage)
    manifest = run_node(experiment, "report", finished_nodes(experiment, store))
    write_file(manifest_path, manifest.to_bytes())
    return _summary(store, manifest, state, problem), store.read(manifest.output("report"))


def _summary(store: ObjectStore, manifest: Manifest, state: str, problem: str) -> str:
    results = Results.model_validate_json(store.read(manifest.output("results")))
    return render_summary(results, state, problem)


def _write_pages(summary: str, page: bytes, page_path: str, summary_path: str) -> None:
    write_file(page_path, page)
    write_file(summary_path, summary.encode())


def _plain_page(text: str) -> bytes:
    return f"<!doctype html><meta charset=utf-8><title>sskd</title><pre>{html.escape(text)}</pre>\n".encode()


def _plan(experiment: ExperimentConfig) -> str:
    lines = [f"# {experiment.name}", "", f"Results go below `{experiment.storage.root}`.", ""]
    lines += ["| setting | value |", "|---|---|"]
    lines += [f"| {name} | {value} |" for name, value in _settings(experiment).items()]
    return "\n".join(lines) + "\n"


def _settings(experiment: ExperimentConfig) -> dict[str, str]:
    data, stages = experiment.data, experiment.stages
    return {
        "labelled": f"`{data.labeled.annotations}`",
        "unlabelled": ", ".join(f"`{location}`" for location in data.unlabeled),
        "data digest": f"`{data.sources_digest}`",
        "teacher": _model(experiment, "teacher"),
        "student": _model(experiment, "student"),
        "iterations": ", ".join(
            f"{name} {getattr(stages, name).iterations}" for name in training_nodes(experiment.method)
        ),
        "promotion": f"from mask AP {stages.gate.min_mask_ap:g} on",
        "seed": str(experiment.seed),
    }


def _model(experiment: ExperimentConfig, role: str) -> str:
    model = getattr(experiment, role)
    return f"{model.family} from `{model.weights or model.encoder_weights or 'random values'}`"
