"""The report in a few lines of Markdown, for an orchestrator's page of a run."""

from __future__ import annotations

from sskd_core.reporting import words
from sskd_core.reporting.results import MODELS, Results


def render_summary(results: Results, state: str, problem: str) -> str:
    """Return a summary.

    Args:
        results: the figures.
        state: how the orchestrator says that the run ended, such as `SUCCEEDED`.
        problem: its error message; empty when there is none.
    """
    lines = [f"# {results.name}: {state.lower()}", "", words.summary(results), *_problem(problem)]
    if results.models:
        lines += ["", f"| model | parameters | mask AP, {results.split} |", "|---|---:|---:|"]
        lines += [
            f"| {MODELS[name]} | {words.parameters(item.parameters)} | {words.points(item.mask_ap)} |"
            for name, item in results.models.items()
        ]
        lines += ["", f"{results.evaluator}, {results.images} images, seed {results.seed}."]
    lines += ["", "| stage | time | manifest |", "|---|---:|---|"]
    lines += [f"| {name} | {words.clock(item.seconds)} | `{item.manifest}` |" for name, item in results.stages.items()]
    lines += [f"| {name} | not done | |" for name in results.missing]
    return "\n".join(lines) + "\n"


def render_refusal(state: str, problem: str) -> str:
    """Return what is said of a run that ended before it had an experiment, or whose results cannot be read."""
    reason = _problem(problem) or ["", "The log of its first task says why."]
    return "\n".join([f"# Run {state.lower()}", "", "There is no result to report.", *reason]) + "\n"


def _problem(text: str) -> list[str]:
    return ["", *(f"> {line}" for line in text.splitlines())] if text else []
