"""The embedded MLflow store: one SQLite file, no server."""

from __future__ import annotations

from pathlib import Path


def embedded_uri(directory: Path) -> str:
    """Return the tracking URI of the store below `directory`, which is created if need be."""
    directory.mkdir(parents=True, exist_ok=True)
    return f"sqlite:///{(directory / 'mlflow.db').resolve()}"
