"""What a stage may say to the tracking server: the protocol, and the run that says nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Protocol

RunStatus = Literal["FINISHED", "FAILED", "KILLED"]


class TrackingRun(Protocol):
    """One run of one stage.

    Attributes:
        run_id: MLflow's id, or None when tracking is off.
    """

    run_id: str | None

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Record settings; a name is written once."""
        ...

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Record figures; with `step`, as points of curves."""
        ...

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Set or replace tags."""
        ...

    def log_input(self, name: str, uri: str, digest: str, context: str) -> None:
        """Record a data set or manifest that was read."""
        ...

    def close(self, status: RunStatus) -> None:
        """Write what is buffered and end the run."""
        ...


class NullRun:
    """Tracking switched off."""

    run_id: str | None = None

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Do nothing."""

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Do nothing."""

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Do nothing."""

    def log_input(self, name: str, uri: str, digest: str, context: str) -> None:
        """Do nothing."""

    def close(self, status: RunStatus) -> None:
        """Do nothing."""
