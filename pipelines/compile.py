"""Compiling the pipeline to the YAML that a KFP server takes."""

from pathlib import Path

from kfp import compiler

from pipelines.sskd import sskd


def compile_pipeline(target: Path) -> None:
    """Write the pipeline as KFP intermediate representation.

    Args:
        target: a `.yaml` file; its folder is made.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    compiler.Compiler().compile(sskd, str(target))
