"""The table that a person sees in the terminal at the end of a run."""

from __future__ import annotations

from rich.markup import escape
from rich.table import Table

from sskd_core.reporting.results import MODELS, Results
from sskd_core.reporting.words import parameters, points, signed

_BASELINE = "zero_shot_teacher"


def results_table(results: Results) -> Table:
    """Return mask AP, the gain over the zero-shot teacher, and the size of every model that was evaluated."""
    table = Table(title=_title(results), caption=_caption(results), title_justify="left", caption_justify="left")
    table.add_column("model")
    for heading in ("mask AP", "gain", "AP50", "AP75", "parameters"):
        table.add_column(heading, justify="right")
    for name, label in MODELS.items():
        row = results.models.get(name)
        if row is not None:
            gain = "" if name == _BASELINE else signed(results.gain(name, _BASELINE))
            table.add_row(
                label,
                points(row.mask_ap),
                gain,
                points(row.mask_ap50),
                points(row.mask_ap75),
                parameters(row.parameters),
                style="bold" if name == results.delivered else "",
            )
    return table


def _title(results: Results) -> str:
    name = escape(results.name)
    return f"{name}: mask AP on {results.split}" if results.models else f"{name}: not evaluated yet"


def _caption(results: Results) -> str:
    known = [
        f"{results.images} {results.split} images" if results.images is not None else None,
        results.evaluator,
        results.device,
        f"seed {results.seed}",
    ]
    missing = f"; not finished: {', '.join(results.missing)}" if results.missing else ""
    return escape(", ".join(item for item in known if item) + missing)
