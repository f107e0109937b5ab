"""`sskd predict`: draw what an exported model sees on images."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from sskd_core.cli.options import DEFAULT_STATE_DIR, Json, Settings, StateDir


def predict(
    model: Annotated[str, typer.Argument(help="ONNX file, s3:// URI of one, or models:/NAME@ALIAS of the registry.")],
    images: Annotated[list[Path], typer.Argument(help="Image files, or folders of them.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for overlays and predictions.json.")],
    score: Annotated[float, typer.Option(min=0.0, max=1.0, help="Drop instances with a lower score.")] = 0.3,
    experiment: Settings = None,
    state_dir: StateDir = DEFAULT_STATE_DIR,
    as_json: Json = False,
) -> None:
    """Predict images with an exported model: one overlay each, and all instances in COCO format. Needs no torch."""
    from rich.progress import Progress

    from sskd_core.cli.output import messages, print_json
    from sskd_core.export.predict_files import RESULTS, predict_files

    files = _expand(images)
    with ExitStack() as stack:
        local = stack.enter_context(_local_model(model, experiment, state_dir.absolute()))
        bar = stack.enter_context(Progress(console=messages(), transient=True))
        task = bar.add_task("predicting", total=len(files))
        found = predict_files(local, files, output, lambda done, _: bar.update(task, completed=done), score)
    if as_json:
        drawn = [{"image": str(i.image), "overlay": str(i.overlay), "instances": i.instances} for i in found]
        print_json({"predictions": str(output / RESULTS), "images": drawn})
    else:
        total = sum(item.instances for item in found)
        typer.echo(f"{total} instances on {len(found)} images; overlays and {RESULTS} are in {output}")


def _expand(paths: list[Path]) -> list[Path]:
    """Replace folders by the images in them, sorted by name."""
    from sskd_core.data.images import SUFFIXES
    from sskd_core.errors import DataError

    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = sorted(item for item in path.rglob("*") if item.suffix.lower() in SUFFIXES and item.is_file())
            if not inside:
                raise DataError(f"{path}: no images in it; known endings are {', '.join(sorted(SUFFIXES))}")
            files += inside
        elif path.is_file():
            files.append(path)
        else:
            raise DataError(f"{path}: no such file or folder")
    return files


@contextmanager
def _local_model(model: str, experiment: str | None, state_dir: Path) -> Iterator[Path]:
    """Bring the model to the local disk."""
    from sskd_core.cli.session import open_storage, resolve_tracking, settings_of
    from sskd_core.errors import UserError
    from sskd_core.storage.store import ObjectStore

    if "://" not in model and not model.startswith("models:/"):
        if not Path(model).is_file():
            raise UserError(f"{model}: no such file; give an ONNX file, an s3:// URI or models:/NAME@ALIAS")
        yield Path(model)
        return
    storage, tracking = settings_of(experiment)
    with open_storage(storage, state_dir) as opened, TemporaryDirectory(prefix="sskd-") as scratch:
        store = ObjectStore(opened)
        local = Path(scratch) / "model.onnx"
        if model.startswith("models:/"):
            from sskd_core.tracking.registry import read_model

            local.write_bytes(read_model(model, resolve_tracking(tracking, state_dir), store))
        else:
            local.write_bytes(store.get(model))
        yield local
