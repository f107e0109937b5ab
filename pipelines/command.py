"""The arguments of `python -m pipelines`. What a user can mend is one line on standard error and exit code 2."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sskd_core.config.assemble import fill_in
from sskd_core.config.base import validate
from sskd_core.config.experiment import ExperimentConfig
from sskd_core.config.graph import GRAPHS
from sskd_core.errors import UserError

if TYPE_CHECKING:
    from pipelines.server import Server

EXIT_USER_ERROR = 2


def main(arguments: list[str] | None = None) -> int:
    """Run the subcommand and return the exit code."""
    options = _parser().parse_args(arguments)
    try:
        return int(options.function(options) or 0)
    except UserError as error:
        print(error, file=sys.stderr)
        return EXIT_USER_ERROR


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m pipelines", description=__doc__)
    commands = parser.add_subparsers(required=True)

    compiling = commands.add_parser("compile", help="write the KFP YAML")
    compiling.add_argument("target", type=Path)
    compiling.add_argument("--method", choices=sorted(GRAPHS), default="sskd", help="without an experiment")
    _add_experiment(compiling)
    _add_platform(compiling)
    compiling.set_defaults(function=_compile)

    running = commands.add_parser("run", help="run on this machine")
    running.add_argument("experiment", type=Path, help="experiment as JSON")
    running.add_argument("--pipeline-root", type=Path, required=True, help="folder for KFP's artifacts")
    running.add_argument("--manifest", type=Path, required=True, help="file for the report's manifest")
    running.add_argument("--stop-with-parent", action="store_true", help="stop when standard input closes")
    running.set_defaults(function=_run)

    ahead = commands.add_parser("ahead", help="run the baseline's stages alone; `run` starts it beside itself")
    ahead.add_argument("experiment", type=Path, help="experiment as JSON")
    ahead.set_defaults(function=_ahead)

    submitting = commands.add_parser("submit", help="start a run, or a recurring one, on a KFP server")
    submitting.add_argument("--experiment", type=Path, required=True, help="experiment as JSON")
    _add_platform(submitting)
    _add_server(submitting)
    submitting.add_argument("--kfp-experiment", default="sskd")
    submitting.add_argument("--service-account")
    submitting.add_argument("--cron", help="six fields, seconds first")
    submitting.set_defaults(function=_submit)

    asking = commands.add_parser("runs", help="look at the runs of a KFP server")
    asking.add_argument("question", choices=["list", "show", "logs"])
    asking.add_argument("run", nargs="?")
    asking.add_argument("--task", help="of the logs; default: those that failed")
    asking.add_argument("--limit", type=int, default=20)
    _add_server(asking)
    asking.set_defaults(function=_runs)
    return parser


def _add_experiment(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--experiment", type=Path, help="experiment as JSON, for the defaults of the form")


def _add_platform(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--cluster", type=Path, help="the platform's choices, a YAML file")
    parser.add_argument("--image")
    parser.add_argument("--allow-tag", action="store_true", help="take an image that is not given by digest")


def _add_server(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--host")
    parser.add_argument("--namespace")
    parser.add_argument("--token-file", type=Path)
    parser.add_argument("--ca-file", type=Path)


def _experiment(path: Path) -> ExperimentConfig:
    return validate(ExperimentConfig, json.loads(path.read_text(encoding="utf-8")), str(path))


def _cluster(options: argparse.Namespace) -> Any:
    from pipelines.cluster import load_cluster

    cluster = load_cluster(options.cluster, image=options.image)
    if not options.allow_tag:
        cluster.require_digests()
    return cluster


def _compile(options: argparse.Namespace) -> None:
    cluster = _cluster(options)
    from pipelines.compile import compile_pipeline

    experiment = _experiment(options.experiment) if options.experiment else None
    form, method = (fill_in(experiment), experiment.method) if experiment else (None, options.method)
    compile_pipeline(options.target, cluster, form, method)


def _ahead(options: argparse.Namespace) -> None:
    from pipelines.ahead import run_baseline
    from sskd_core.stages.component import exit_codes

    with exit_codes():
        run_baseline(_experiment(options.experiment))


def _run(options: argparse.Namespace) -> int:
    from pipelines.local import run_to_exit_code, stop_with_parent

    if options.stop_with_parent:
        stop_with_parent()
    return run_to_exit_code(_experiment(options.experiment), options.pipeline_root, options.manifest)


def _server(options: argparse.Namespace) -> Server:
    from pipelines.server import connect

    return connect(options.host, options.namespace, options.token_file, options.ca_file)


def _submit(options: argparse.Namespace) -> None:
    cluster = _cluster(options)
    experiment = _experiment(options.experiment)
    from pipelines.submit import submit

    _print(
        submit(
            _server(options),
            cluster,
            experiment,
            options.kfp_experiment,
            service_account=options.service_account,
            cron=options.cron,
        )
    )


def _runs(options: argparse.Namespace) -> None:
    from pipelines import runs

    server = _server(options)
    if options.question == "list":
        _print(runs.listed(server, options.limit))
        return
    if options.run is None:
        raise UserError(f"which run? sskd runs {options.question} RUN; sskd runs list shows them")
    if options.question == "show":
        _print(runs.shown(server, options.run))
    else:
        sys.stdout.writelines(runs.logs(server, options.run, options.task))


def _print(value: Any) -> None:
    print(json.dumps(value, indent=2))
