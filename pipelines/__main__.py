"""`python -m pipelines compile|run`: what the `sskd` command starts as a child, and what a CI job may call itself."""

import argparse
import json
import sys
from pathlib import Path

from sskd_core.config.base import validate
from sskd_core.config.experiment import ExperimentConfig


def main(arguments: list[str] | None = None) -> int:
    """Run the subcommand and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m pipelines", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    compiling = commands.add_parser("compile", help="write the KFP YAML")
    compiling.add_argument("target", type=Path)
    running = commands.add_parser("run", help="run on this machine")
    running.add_argument("experiment", type=Path, help="experiment as JSON")
    running.add_argument("--pipeline-root", type=Path, required=True, help="folder for KFP's artifacts")
    running.add_argument("--manifest", type=Path, required=True, help="file for the report's manifest")
    running.add_argument("--stop-with-parent", action="store_true", help="stop when standard input closes")
    options = parser.parse_args(arguments)
    if options.command == "compile":
        from pipelines.compile import compile_pipeline

        compile_pipeline(options.target)
        return 0
    from pipelines.local import run_to_exit_code, stop_with_parent

    if options.stop_with_parent:
        stop_with_parent()
    experiment = validate(ExperimentConfig, json.loads(options.experiment.read_text()), str(options.experiment))
    return run_to_exit_code(experiment, options.pipeline_root, options.manifest)


if __name__ == "__main__":
    sys.exit(main())
