"""`sskd labels`: what is in a set of pseudo-labels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sskd_core.cli.options import DEFAULT_STATE_DIR, Json, Settings, StateDir

if TYPE_CHECKING:
    from sskd_core.labels.statistics import LabelStatistics

app = typer.Typer(help="Pseudo-labels.", no_args_is_help=True)


@app.callback()
def labels() -> None:
    """Keep `inspect` a subcommand while it is the only one."""


@app.command()
def inspect(
    manifest: Annotated[str, typer.Argument(metavar="MANIFEST", help="s3:// URI of a pseudo_label manifest.")],
    sheet: Annotated[Path | None, typer.Option(help="Write the contact sheet (PNG) here.")] = None,
    experiment: Settings = None,
    state_dir: StateDir = DEFAULT_STATE_DIR,
    as_json: Json = False,
) -> None:
    """Show the figures of a set of pseudo-labels: classes, scores, empty images, what was rejected and why."""
    from sskd_core.cli.output import print_json
    from sskd_core.cli.session import open_storage, settings_of
    from sskd_core.labels.statistics import LabelStatistics
    from sskd_core.storage.store import ObjectStore

    storage, _ = settings_of(experiment)
    with open_storage(storage, state_dir.absolute()) as opened:
        store = ObjectStore(opened)
        found = store.manifest(manifest)
        figures = LabelStatistics.model_validate_json(store.read(found.output("statistics")))
        if sheet is not None:
            sheet.write_bytes(store.read(found.output("sheet")))
    if as_json:
        print_json({"manifest": found.uri, "labeller": found.facts.get("labeller"), **figures.model_dump(mode="json")})
    else:
        _show(figures)


def _show(figures: LabelStatistics) -> None:
    from rich.table import Table

    from sskd_core.cli.output import answers

    console = answers()
    console.print(
        f"{figures.instances} instances on {figures.images} images, {figures.empty_rate:.1%} of the images empty"
    )
    table = Table("class", "instances", "share")
    total = max(figures.instances, 1)
    for name, count in sorted(figures.class_histogram.items(), key=lambda item: -item[1]):
        table.add_row(name, str(count), f"{count / total:.1%}")
    console.print(table)
    quantiles = "  ".join(f"{float(key):.0%}: {value:.2f}" for key, value in figures.score_quantiles.items())
    console.print(f"scores by quantile  {quantiles or 'none'}")
    rejected = ", ".join(f"{count} {reason}" for reason, count in sorted(figures.rejected.items()))
    console.print(f"rejected  {rejected or 'none'}")
