"""What the commands about registered models share: the store and the registry, opened."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sskd_core.cli.session import open_storage, resolve_tracking, settings_of
from sskd_core.config.tracking import TrackingConfig
from sskd_core.storage.store import ObjectStore


@contextmanager
def open_registry(experiment: str | None, state_dir: Path) -> Iterator[tuple[TrackingConfig, ObjectStore]]:
    """Open store and registry of an experiment file, or the embedded ones.

    Args:
        experiment: the file; None for the embedded services.
        state_dir: where those live.

    Raises:
        UserError: the file or the store cannot be used.
    """
    storage, tracking = settings_of(experiment)
    with open_storage(storage, state_dir) as opened:
        yield resolve_tracking(tracking, state_dir), ObjectStore(opened)
