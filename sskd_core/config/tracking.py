"""Where the lineage goes: MLflow, in one of three modes."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from sskd_core.config.address import ServerUri
from sskd_core.config.base import StrictModel


class TrackingConfig(StrictModel):
    """MLflow tracking and registry.

    `auto` means *injected* when the platform has opened a run (`MLFLOW_RUN_ID` is set), else *own*.
    """

    mode: Literal["auto", "own", "injected", "off"] = "auto"
    uri: ServerUri | None = Field(None, description="MLflow tracking URI; null for the embedded SQLite store")
    experiment: str = Field("sskd", min_length=1, description="MLflow experiment name")
    registered_model: str = Field("sskd-student", min_length=1, description="name in the MLflow model registry")
