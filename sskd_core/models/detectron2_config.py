"""Which detectron2 model: a yaml configuration or a LazyConfig, and how it becomes a network.

detectron2 is imported only here and in `models/detectron2.py`, and only when a model of it is built.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, model_validator
from torch import nn

from sskd_core.config.base import StrictModel
from sskd_core.errors import ConfigError

FAMILY = "family detectron2"


class Detectron2Arch(StrictModel):
    """Where the configuration is, and what is changed in it.

    The number of classes is set by the class list. `MODEL.WEIGHTS` and its like are not followed: weights come from
    `weights`, as safetensors.
    """

    config: str | None = Field(
        None, description="path of a .yaml or .py configuration, or its name below detectron2's model_zoo/configs"
    )
    options: dict[str, Any] = Field(default_factory=dict, description="dotted keys of the configuration -> values")
    run_config_code: bool = Field(
        False, description="a LazyConfig of your own is Python code; set true to let it run (the zoo's always may)"
    )
    input_format: Literal["BGR", "RGB"] | None = Field(
        None, description="order of the channels that the network wants; null: as its configuration says"
    )
    resolved: dict[str, Any] | None = Field(
        None, description="the whole of a yaml configuration, written beside weights so that they need no other file"
    )

    @model_validator(mode="after")
    def _options_are_plain(self) -> Detectron2Arch:
        """Refuse what could make a LazyConfig call something else than its file says."""
        for key, value in self.options.items():
            if any(part.startswith("_") for part in key.split(".")) or not _is_plain(value):
                raise ValueError(
                    f"option '{key}' must be a public key with a number, a string, a truth value or a list"
                )
        return self

    @model_validator(mode="after")
    def _one_source(self) -> Detectron2Arch:
        if (self.config is None) == (self.resolved is None):
            raise ValueError("set 'config', the path or zoo name of a detectron2 configuration")
        return self


def _is_plain(value: Any) -> bool:
    if isinstance(value, list):
        return all(_is_plain(item) for item in value)
    return value is None or isinstance(value, int | float) or (isinstance(value, str) and "${" not in value)


def require_detectron2() -> None:
    """Refuse when the library is missing.

    Raises:
        ConfigError: it is not installed.
    """
    if find_spec("detectron2") is None:
        raise ConfigError(
            f"{FAMILY}: the package detectron2 is not installed here; build it from its source (see docs/models.md)"
        )


def build_network(arch: Detectron2Arch, classes: int) -> tuple[nn.Module, Detectron2Arch, str]:
    """Build a network with random values on the CPU.

    Args:
        arch: see `Detectron2Arch`.
        classes: their number.

    Returns:
        The network, the architecture to write beside its weights, and the order of its input's channels.

    Raises:
        ConfigError: no such configuration, one that does not fit detectron2, or one whose code must not run.
    """
    require_detectron2()
    try:
        if arch.resolved is not None:
            return _from_yaml(arch, arch.resolved, classes)
        path = _find(str(arch.config))
        if path.suffix in (".yaml", ".yml"):
            return _from_yaml(arch, path, classes)
        if not arch.run_config_code and not _is_zoo(path):
            raise ConfigError(
                f"{FAMILY}: {path} is Python code that building the model would run; set arch.run_config_code: true "
                "if you trust it, or use a yaml configuration"
            )
        return _from_lazy(arch, path, classes)
    except (AssertionError, AttributeError, KeyError, TypeError, ValueError, yaml.YAMLError) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise ConfigError(f"{FAMILY}: the configuration {arch.config or ''} is not valid: {reason}") from error


def _from_yaml(
    arch: Detectron2Arch, source: Path | dict[str, Any], classes: int
) -> tuple[nn.Module, Detectron2Arch, str]:
    from detectron2.config import CfgNode, get_cfg
    from detectron2.modeling import build_model

    config = get_cfg()
    if isinstance(source, Path):
        config.merge_from_file(str(source), allow_unsafe=False)
    else:
        config.merge_from_other_cfg(CfgNode(source))
    config.merge_from_list([part for item in arch.options.items() for part in item])
    config.MODEL.ROI_HEADS.NUM_CLASSES = config.MODEL.RETINANET.NUM_CLASSES = classes
    config.MODEL.DEVICE = "cpu"
    config.MODEL.WEIGHTS = ""
    resolved = yaml.safe_load(config.dump())
    described = arch.model_copy(update={"config": None, "options": {}, "resolved": resolved})
    return build_model(config), described, arch.input_format or str(config.INPUT.FORMAT)


def _from_lazy(arch: Detectron2Arch, path: Path, classes: int) -> tuple[nn.Module, Detectron2Arch, str]:
    from detectron2.config import LazyConfig, instantiate
    from omegaconf import OmegaConf

    config = LazyConfig.load(str(path))
    model = config.model
    for key in ("roi_heads.num_classes", "num_classes"):
        if OmegaConf.select(model, key) is not None:
            OmegaConf.update(model, key, classes)
    for key, value in arch.options.items():
        OmegaConf.update(config, key, value)
    network = instantiate(model)
    if not isinstance(network, nn.Module):
        raise TypeError(f"its model is a {type(network).__name__}, not a network")
    named = arch.input_format or getattr(network, "input_format", None)
    return network, arch, str(named or "BGR")


def _zoo() -> Path:
    spec = find_spec("detectron2")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "model_zoo" / "configs"


def _is_zoo(path: Path) -> bool:
    return path.resolve().is_relative_to(_zoo().resolve())


def _find(name: str) -> Path:
    """Return the path of a configuration.

    Raises:
        ConfigError: no such file, or one of another kind.
    """
    for path in (Path(name).expanduser(), _zoo() / name):
        if path.is_file():
            if path.suffix not in (".yaml", ".yml", ".py"):
                raise ConfigError(f"{FAMILY}: {name} is neither a .yaml nor a .py configuration")
            return path
    raise ConfigError(f"{FAMILY}: no configuration '{name}', neither as a path nor in detectron2's model zoo")
