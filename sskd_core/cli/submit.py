"""`sskd submit`: a run on a KFP server, once or on a schedule."""

from __future__ import annotations

from typing import Annotated

import typer

from sskd_core.cli.options import (
    AllowTag,
    CaFile,
    Cluster,
    Experiment,
    Host,
    Image,
    Json,
    KfpExperiment,
    Namespace,
    Overrides,
    Seed,
    ServiceAccount,
    TokenFile,
    with_seed,
)


def submit(
    experiment: Experiment,
    host: Host = None,
    namespace: Namespace = None,
    token_file: TokenFile = None,
    ca_file: CaFile = None,
    kfp_experiment: KfpExperiment = "sskd",
    service_account: ServiceAccount = None,
    cron: Annotated[
        str | None, typer.Option(help="Run again and again: six fields, seconds first, e.g. '0 0 3 * * 1'.")
    ] = None,
    cluster: Cluster = None,
    image: Image = None,
    allow_tag: AllowTag = False,
    overrides: Overrides = None,
    seed: Seed = None,
    as_json: Json = False,
) -> None:
    """Check an experiment here, and start it on a KFP server."""
    from sskd_core.cli.orchestrator import given, start_run
    from sskd_core.cli.output import show_started
    from sskd_core.config.loading import load_experiment

    loaded = load_experiment(experiment, with_seed(overrides, seed))
    server = given(host=host, namespace=namespace, token_file=token_file, ca_file=ca_file)
    platform = given(cluster=cluster, image=image, allow_tag=allow_tag)
    run = given(kfp_experiment=kfp_experiment, service_account=service_account, cron=cron)
    show_started(start_run(loaded, [*server, *platform, *run]), as_json)
