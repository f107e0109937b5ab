"""`sskd pretrain`: make the small weights that the package ships, exactly as they were made."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Network(StrEnum):
    """What is pre-trained; each has its preset `pretrain_<name>.yaml`."""

    teacher = "teacher"
    student = "student"


def pretrain(
    network: Annotated[Network, typer.Argument(help="which preset: the whole teacher, or the student's encoder")],
    output: Annotated[Path, typer.Option("--output", "-o", help="folder for weights, card and curve")],
    seed: Annotated[int, typer.Option(min=0, help="seed of scenes, initial values and order")] = 0,
    iterations: Annotated[int | None, typer.Option(min=1, help="shorter or longer than the preset")] = None,
    state_dir: Annotated[Path, typer.Option(help="where the embedded store keeps checkpoints")] = Path(".sskd"),
) -> None:
    """Pre-train on rendered scenes of the source domain; killed and run again, it goes on."""
    from sskd_core.config.base import validate
    from sskd_core.config.loading import load_preset_values
    from sskd_core.config.pretrain import PretrainConfig
    from sskd_core.progress import Progress
    from sskd_core.services.embedded import embedded
    from sskd_core.storage.digest import digest_json
    from sskd_core.storage.store import ObjectStore
    from sskd_core.training.pretrain import deliver
    from sskd_core.training.pretrain import pretrain as train

    values = load_preset_values(f"pretrain_{network}")
    values["seed"] = seed
    if iterations is not None:
        values["train"]["iterations"] = iterations
    config = validate(PretrainConfig, values, f"preset pretrain_{network}")
    with embedded(state_dir) as storage:
        store = ObjectStore(storage)
        identity = digest_json(config.fingerprint_dict()).removeprefix("sha256:")[:16]
        outcome = train(config, store, f"{store.root}/pretrain/{identity}", Progress(f"pretrain_{network}"))
    command = f"sskd pretrain {network} -o {output} --seed {seed}"
    deliver(config, outcome, command, output)
    typer.echo(f"{output}: {outcome.val_score:.1f} on the source domain, see {output / 'README.md'}")
