"""`sskd predict`: draw what an exported model sees on images and videos."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer

from sskd_core.cli.options import DEFAULT_STATE_DIR, Json, Settings, StateDir

if TYPE_CHECKING:
    from sskd_core.config.tracking import TrackingConfig
    from sskd_core.export.predict_files import PredictedPicture
    from sskd_core.storage.store import ObjectStore


def predict(
    model: Annotated[str, typer.Argument(help="ONNX file, s3:// URI of one, or models:/NAME@ALIAS of the registry.")],
    images: Annotated[
        list[str], typer.Argument(help="Images, videos, folders, s3:// objects and prefixes, or patterns of them.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for overlays, masks and predictions.json.")],
    score: Annotated[float, typer.Option(min=0.0, max=1.0, help="Drop instances with a lower score.")] = 0.3,
    batch: Annotated[int, typer.Option(min=1, help="Images in one run of the network.")] = 4,
    frame_step: Annotated[int, typer.Option(min=1, help="Of a video, predict every so many frames.")] = 1,
    overlays: Annotated[bool, typer.Option(help="Draw the instances on a copy of each image.")] = True,
    masks: Annotated[
        bool, typer.Option(help="Write a 16-bit PNG with the number of the instance in each pixel.")
    ] = False,
    experiment: Settings = None,
    state_dir: StateDir = DEFAULT_STATE_DIR,
    as_json: Json = False,
) -> None:
    """Predict with an exported model: overlays, PNG masks, and all instances in COCO format. Needs no torch."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from sskd_core.cli.output import messages, print_json
    from sskd_core.export.inputs import find_inputs
    from sskd_core.export.predict_files import RESULTS, PredictOptions, predict_files

    options = PredictOptions(score, batch, frame_step, overlays, masks)
    with ExitStack() as stack:
        store, tracking = stack.enter_context(_services([model, *images], experiment, state_dir.absolute()))
        files = find_inputs(images, store)
        local = stack.enter_context(_local_model(model, store, tracking))
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        bar = stack.enter_context(Progress(*columns, console=messages(), transient=True))
        # How many frames a video has is known when it has been read.
        total = None if any(item.is_video for item in files) else len(files)
        task = bar.add_task("predicting", total=total)
        found = predict_files(local, files, output, options, lambda done: bar.update(task, completed=done))
    if as_json:
        print_json({"predictions": str(output / RESULTS), "images": [_described(item) for item in found]})
    else:
        instances = sum(item.instances for item in found)
        typer.echo(
            f"{instances} instances on {len(found)} images; {RESULTS} and what else was asked for is in {output}"
        )


def _described(item: PredictedPicture) -> dict[str, object]:
    """Return one picture as JSON values; what was not written is null."""
    return {
        "image": item.location,
        "frame": item.frame,
        "overlay": None if item.overlay is None else str(item.overlay),
        "mask": None if item.mask is None else str(item.mask),
        "instances": item.instances,
    }


@contextmanager
def _services(
    locations: list[str], experiment: str | None, state_dir: Path
) -> Iterator[tuple[ObjectStore | None, TrackingConfig]]:
    """Open the object store if a location lies in it or is registered; the prefixes that are named may be read."""
    from sskd_core.cli.session import open_storage, resolve_tracking, settings_of
    from sskd_core.storage.store import ObjectStore

    storage, tracking = settings_of(experiment)
    stored = [item for item in locations if item.startswith("s3://")]
    if not stored and not locations[0].startswith("models:/"):
        yield None, tracking
        return
    with open_storage(storage, state_dir) as opened:
        widened = opened.model_copy(update={"read_roots": [*opened.read_roots, *map(_readable, stored)]})
        yield ObjectStore(widened), resolve_tracking(tracking, state_dir)


def _readable(location: str) -> str:
    """Return the prefix that a location is read from: that of a pattern is the folder that it starts in."""
    folder = re.split(r"[*?\[]", location)[0].rpartition("/")[0]
    return location if folder == "s3:/" else folder


@contextmanager
def _local_model(model: str, store: ObjectStore | None, tracking: TrackingConfig) -> Iterator[Path]:
    """Bring the model to the local disk."""
    from sskd_core.errors import UserError

    if store is None or not model.startswith(("s3://", "models:/")):
        if not Path(model).is_file():
            raise UserError(f"{model}: no such file; give an ONNX file, an s3:// URI or models:/NAME@ALIAS")
        yield Path(model)
        return
    with TemporaryDirectory(prefix="sskd-") as scratch:
        local = Path(scratch) / "model.onnx"
        if model.startswith("models:/"):
            from sskd_core.tracking.registry import read_model

            local.write_bytes(read_model(model, tracking, store))
        else:
            local.write_bytes(store.get(model))
        yield local
