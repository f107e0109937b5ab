"""The end of a run: the report on the local disk, the table on the screen."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sskd_core.cli.output import answers, print_json
from sskd_core.reporting.results import Results
from sskd_core.reporting.table import results_table
from sskd_core.storage.manifest import Manifest
from sskd_core.storage.store import ObjectStore


@dataclass(frozen=True)
class KeptResults:
    """The results of a run, copied out of the store.

    Attributes:
        results: the figures.
        document: `results.json`.
        page: `report.html`.
    """

    results: Results
    document: Path
    page: Path


def keep_results(manifest: Manifest, store: ObjectStore, folder: Path) -> KeptResults:
    """Copy the report to a folder, replacing an earlier one.

    Args:
        manifest: of the report.
        store: where it lies.
        folder: made if absent.
    """
    folder.mkdir(parents=True, exist_ok=True)
    document, page = folder / "results.json", folder / "report.html"
    data = store.read(manifest.output("results"))
    page.write_bytes(store.read(manifest.output("report")))
    document.write_bytes(data)
    return KeptResults(Results.model_validate_json(data), document, page)


def show_results(kept: KeptResults, as_json: bool) -> None:
    """Print the table and where the files are, or all of it as JSON."""
    if as_json:
        files = {"results": str(kept.document), "report": str(kept.page)}
        print_json({**kept.results.model_dump(mode="json"), "files": files})
        return
    console = answers()
    console.print(results_table(kept.results))
    console.print(f"report   {kept.page}", soft_wrap=True, markup=False)
    console.print(f"figures  {kept.document}", soft_wrap=True, markup=False)
