"""What an experiment leaves open, filled in for a run on this machine: store, tracking, cache."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from sskd_core.config.experiment import ExperimentConfig
from sskd_core.config.loading import load_experiment
from sskd_core.config.storage import CACHE_VARIABLE, StorageConfig
from sskd_core.config.tracking import TrackingConfig
from sskd_core.errors import UserError
from sskd_core.services.embedded import embedded


@contextmanager
def open_session(experiment: ExperimentConfig, state_dir: Path) -> Iterator[ExperimentConfig]:
    """Start what the experiment does not name, and stop it at the end.

    Args:
        experiment: with or without a store and a tracking URI of its own.
        state_dir: where the embedded services and caches live.

    Yields:
        The experiment, complete: every process that reads it reaches the same services.
    """
    _make(state_dir)
    with ExitStack() as stack:
        storage = stack.enter_context(open_storage(experiment.storage, state_dir))
        complete = {"storage": storage, "tracking": resolve_tracking(experiment.tracking, state_dir)}
        yield experiment.model_copy(update=complete)


@contextmanager
def open_storage(storage: StorageConfig, state_dir: Path) -> Iterator[StorageConfig]:
    """Use the named store, or start the embedded one; give either a cache that all stages share."""
    given = storage.cache_dir or os.environ.get(CACHE_VARIABLE)
    cached = storage if given else storage.model_copy(update={"cache_dir": str(state_dir / "cache")})
    if storage.root is not None:
        yield cached
        return
    with embedded(state_dir) as found:
        own = {name: getattr(found, name) for name in ("root", "endpoint_url", "region", "addressing_style")}
        yield cached.model_copy(update=own)


def resolve_tracking(tracking: TrackingConfig, state_dir: Path) -> TrackingConfig:
    """Name the embedded MLflow store where the experiment and the platform name none."""
    if tracking.uri is not None or tracking.mode == "off" or os.environ.get("MLFLOW_TRACKING_URI"):
        return tracking
    from sskd_core.tracking.embedded import embedded_uri

    return tracking.model_copy(update={"uri": embedded_uri(state_dir)})


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"cannot make the state folder {folder}: {error.strerror}; choose another: --state-dir"
        ) from None


def settings_of(experiment: str | None) -> tuple[StorageConfig, TrackingConfig]:
    """Return store and tracking of an experiment file; those of the embedded services without one."""
    if experiment is None:
        return StorageConfig(), TrackingConfig()
    loaded = load_experiment(experiment)
    return loaded.storage, loaded.tracking
