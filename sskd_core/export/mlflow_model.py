"""An exported file as an MLflow model: a folder with the file, what it takes to serve it, and nothing pickled.

The folder holds two flavours of one file: `onnx`, for `mlflow.onnx.load_model` and any other ONNX tool, and
`python_function`, for `mlflow models serve`. The latter runs `sskd_core.export.serving`, which the folder carries
together with the few modules that it imports, so a server needs MLflow, numpy, Pillow and onnxruntime, and not sskd.
"""

from __future__ import annotations

import shutil
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sskd_core
from sskd_core.export.contract import Contract

if TYPE_CHECKING:
    from mlflow.models import Model, ModelSignature

ONNX_FILE = "model.onnx"
_REQUIREMENTS = ("numpy", "pillow", "onnx", "onnxruntime")
_LOADER = "sskd_core.export.serving"
_CODE = (
    "__init__.py",
    "errors.py",
    "data/__init__.py",
    "data/images.py",
    "data/polygons.py",
    "data/preprocess.py",
    "data/records.py",
    "data/semantic_map.py",
    "export/__init__.py",
    "export/contract.py",
    "export/predictor.py",
    "export/serving.py",
    "export/session.py",
)
_FIND_THE_REST = '\n__path__ = __import__("pkgutil").extend_path(__path__, __name__)\n'
"""Lets a process that loads the model and has sskd installed import what the folder does not carry."""


def write_mlflow_model(network: bytes, folder: Path, description: Model) -> list[str]:
    """Write the folder.

    Args:
        network: the bytes of an exported file.
        folder: to make; it must not exist.
        description: with the date and the id to record; equal arguments give equal bytes.

    Returns:
        The paths of its files, relative and sorted.

    Raises:
        UserError: the file is not one of ours.
    """
    import mlflow.onnx
    from mlflow.models import Model
    from onnx import load_model_from_string

    graph = load_model_from_string(network)
    Contract.from_metadata({item.key: item.value for item in graph.metadata_props}, ONNX_FILE)
    with tempfile.TemporaryDirectory() as scratch:
        mlflow.onnx.save_model(
            graph,
            folder,
            mlflow_model=description,
            signature=_signature(),
            code_paths=[str(_copy_code(Path(scratch)))],
            pip_requirements=[f"{name}=={version(name)}" for name in _REQUIREMENTS],
            save_as_external_data=False,
        )
    written = Model.load(folder)
    written.flavors["python_function"]["loader_module"] = _LOADER
    written.flavors["onnx"]["code"] = None
    written.save(folder / "MLmodel")
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def _copy_code(scratch: Path) -> Path:
    """Copy the modules that serve a model; return the folder of their package."""
    source, target = Path(sskd_core.__file__).parent, scratch / "sskd_core"
    for name in _CODE:
        copy = target / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / name, copy)
        if copy.name == "__init__.py":
            copy.write_text(copy.read_text(encoding="utf-8") + _FIND_THE_REST, encoding="utf-8")
    return target


def _signature() -> ModelSignature:
    """Return MLflow's description of requests and answers."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema
    from mlflow.types.schema import Array, Object, Property

    from sskd_core.export.serving import DEFAULTS, IMAGE

    numbers = Array(DataType.double)
    properties: dict[str, Any] = {
        "category": DataType.long,
        "class": DataType.string,
        "score": DataType.double,
        "bbox": numbers,
        "area": DataType.long,
        "segmentation": Object([Property("size", Array(DataType.long)), Property("counts", DataType.string)]),
        "polygons": Array(numbers),
    }
    instance = Object([Property(name, kind) for name, kind in properties.items()])
    kinds = {float: DataType.double, int: DataType.long, bool: DataType.boolean}
    return ModelSignature(
        inputs=Schema([ColSpec(DataType.binary, IMAGE)]),
        outputs=Schema(
            [
                ColSpec(DataType.long, "width"),
                ColSpec(DataType.long, "height"),
                ColSpec(Array(instance), "instances"),
            ]
        ),
        params=ParamSchema([ParamSpec(name, kinds[type(value)], value) for name, value in DEFAULTS.items()]),
    )
