"""A whole experiment in seconds: the demo's scenes, a handful of each, and the networks of `micro.yaml`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sskd_core.config.base import validate
from sskd_core.config.data import DataConfig
from sskd_core.config.experiment import ExperimentConfig
from sskd_core.config.loading import read_mapping
from sskd_core.config.storage import StorageConfig
from sskd_core.data.demo import DemoSizes, write_demo_dataset
from sskd_core.storage.store import ObjectStore

FILE = Path(__file__).parent / "micro.yaml"
GUIDED_FILE = FILE.with_name("micro_guided.yaml")
SIZES = DemoSizes(labeled=4, unlabeled=6, val=2, test=2)


def micro_data(store: ObjectStore, seed: int = 0) -> DataConfig:
    """Put the scenes into the store."""
    return write_demo_dataset(store, seed, SIZES)


def micro_experiment(storage: StorageConfig, data: DataConfig, file: Path = FILE, **values: Any) -> ExperimentConfig:
    """Return the experiment, tracked nowhere unless `tracking` is given."""
    own = {"storage": storage, "data": data, "tracking": {"mode": "off"}} | values
    return validate(ExperimentConfig, read_mapping(file) | own, str(file))
