"""The table that a person sees in the terminal at the end of a run."""

from __future__ import annotations

from rich.table import Table

from sskd_core.reporting.results import MODELS, Results

_BASELINE = "zero_shot_teacher"


def results_table(results: Results) -> Table:
    """Return mask AP, the gain over the zero-shot teacher, and size of every model."""
    caption = f"{results.images} {results.split} images, {results.evaluator}, {results.device}, seed {results.seed}"
    table = Table(title=f"{results.name}: mask AP on {results.split}", caption=caption, title_justify="left")
    table.add_column("model")
    for heading in ("mask AP", "gain", "AP50", "parameters"):
        table.add_column(heading, justify="right")
    baseline = results.models.get(_BASELINE)
    for name, label in MODELS.items():
        row = results.models.get(name)
        if row is not None:
            gain = "" if baseline is None or name == _BASELINE else f"{row.mask_ap - baseline.mask_ap:+.1f}"
            size = f"{row.parameters / 1e6:.2f} M"
            style = "bold" if name == "refined_student" else ""
            table.add_row(label, f"{row.mask_ap:.1f}", gain, f"{row.mask_ap50:.1f}", size, style=style)
    return table
