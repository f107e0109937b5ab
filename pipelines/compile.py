"""Compiling the pipeline to the YAML that a KFP server takes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kfp import compiler

from pipelines.cluster import ClusterConfig
from pipelines.methods import BUILDERS
from sskd_core.config.graph import Method


def compile_pipeline(
    target: Path, cluster: ClusterConfig, defaults: Mapping[str, Any] | None = None, method: Method = "sskd"
) -> None:
    """Write the pipeline of a method as KFP intermediate representation.

    Args:
        target: a `.yaml` file; its folder is made.
        cluster: the platform's choices.
        defaults: what the form is filled in with, instead of the general defaults.
        method: whose pipeline.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    compiler.Compiler().compile(BUILDERS[method](cluster), str(target), pipeline_parameters=dict(defaults or {}))
