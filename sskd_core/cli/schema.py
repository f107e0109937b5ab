"""`sskd schema`: the JSON Schema of an experiment file, for editors and reviewers."""

from __future__ import annotations


def schema() -> None:
    """Print the JSON Schema of an experiment."""
    from sskd_core.cli.output import print_json
    from sskd_core.config.experiment import ExperimentConfig

    print_json(ExperimentConfig.model_json_schema())
