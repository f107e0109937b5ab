"""`sskd describe`: what an experiment would do, without doing it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from sskd_core.cli.options import Experiment, Json, Overrides

if TYPE_CHECKING:
    from sskd_core.config.experiment import ExperimentConfig
    from sskd_core.config.model import ModelConfig


def describe(
    experiment: Experiment,
    overrides: Overrides = None,
    classes: Annotated[int, typer.Option(min=1, help="Classes of the data set, which the class head depends on.")] = 1,
    as_json: Json = False,
) -> None:
    """Show stages, settings and models with their parameter counts. Needs no services and loads no weights."""
    from sskd_core.cli.output import print_json
    from sskd_core.config.loading import load_experiment

    config = load_experiment(experiment, overrides or [])
    answer = {
        "name": config.name,
        "method": config.method,
        "models": {role: _model(getattr(config, role), classes) for role in ("teacher", "student")},
        "nodes": _nodes(config),
        "experiment": config.model_dump(mode="json"),
    }
    if as_json:
        print_json(answer)
    else:
        _show(answer)


def _model(config: ModelConfig, classes: int) -> dict[str, Any]:
    """Build the network without memory for its values and count them."""
    import torch

    from sskd_core.models.build import construct, with_known_architecture

    parts = (config.grounding.detector, config.grounding.segmenter) if config.grounding else ()
    sources = [place for place in (config.weights, config.encoder_weights, *parts) if place is not None]
    names = [f"class {number}" for number in range(classes)]
    actual = config if any(place.startswith("s3://") for place in sources) else with_known_architecture(config, None)
    with torch.device("meta"):
        model = construct(actual, names, seed=0)
    return {
        "family": config.family,
        "weights": " + ".join(sources) or None,
        "licence": config.licence,
        "input": [config.input.height, config.input.width],
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
    }


def _nodes(config: ExperimentConfig) -> list[dict[str, Any]]:
    return [
        {"name": node.name, "stage": node.stage, "inputs": node.inputs, "fan_out": node.fan_out}
        | _training(config, node.name)
        for node in config.nodes
    ]


def _training(config: ExperimentConfig, node: str) -> dict[str, Any]:
    from sskd_core.config.train import TrainConfig

    settings = getattr(config.stages, node, None)
    if not isinstance(settings, TrainConfig):
        return {}
    return {
        "strategy": settings.strategy,
        "iterations": settings.iterations,
        "batch": {"labeled": settings.labeled_batch, "unlabeled": settings.unlabeled_batch},
        "lr": settings.optimizer.lr,
    }


def _show(answer: dict[str, Any]) -> None:
    from rich.table import Table

    from sskd_core.cli.output import answers

    console = answers()
    console.print(f"[bold]{answer['name']}[/bold] ({answer['method']})")
    models = Table("model", "family", "parameters", "input", "initial weights", "licence")
    for role, model in answer["models"].items():
        size = f"{model['parameters'] / 1e6:.2f}M"
        shape = "x".join(str(side) for side in model["input"])
        models.add_row(role, model["family"], size, shape, model["weights"] or "random", model["licence"])
    console.print(models)
    nodes = Table("stage", "reads", "strategy", "iterations", "images a step", "lr")
    for node in answer["nodes"]:
        batch = node.get("batch")
        nodes.add_row(
            node["name"],
            ", ".join(dict.fromkeys(node["inputs"].values())),
            node.get("strategy", ""),
            str(node.get("iterations", "")),
            f"{batch['labeled']} + {batch['unlabeled']}" if batch else "",
            f"{node['lr']:g}" if "lr" in node else "",
        )
    console.print(nodes)
