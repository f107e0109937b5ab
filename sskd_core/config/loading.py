"""From an experiment file to a validated experiment: YAML, presets, overrides.

A file may name a `preset` and then says only what differs. Its sections are laid over the preset's key by key, except
`data`, `teacher` and `student`: half a data set or half a model is never what one means, so those replace.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from sskd_core.config.base import validate
from sskd_core.config.experiment import ExperimentConfig
from sskd_core.errors import ConfigError

PRESETS = Path(__file__).parent / "presets"
_NOT_EXPERIMENTS = "pretrain_"
_REPLACED = ("data", "teacher", "student")
_SUFFIXES = (".yaml", ".yml", ".json")
_EXPONENT = re.compile(r"^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)[eE][-+]?[0-9]+$")


def preset_names() -> list[str]:
    """Return the names of the shipped experiment presets."""
    return sorted(path.stem for path in PRESETS.glob("*.yaml") if not path.stem.startswith(_NOT_EXPERIMENTS))


def load_preset_values(name: str) -> dict[str, Any]:
    """Return the parsed values of a shipped preset, of an experiment or of a pre-training."""
    return read_mapping(PRESETS / f"{name}.yaml")


def load_experiment(source: str, overrides: Sequence[str] = ()) -> ExperimentConfig:
    """Read an experiment.

    Args:
        source: a YAML or JSON file, or the name of a preset.
        overrides: `key.sub=value`, the value as YAML; later ones win.

    Raises:
        ConfigError: no such file or preset, malformed YAML, an unknown key or a wrong value.
    """
    path = _find(source)
    values = with_preset(read_mapping(path), str(path))
    for item in overrides:
        apply_override(values, item)
    return complete(values, str(source))


def complete(values: Mapping[str, Any], where: str) -> ExperimentConfig:
    """Validate plain values and fill in what follows from them.

    Args:
        values: the whole experiment.
        where: they came from, for the message.

    Raises:
        ConfigError: an unknown key or a wrong value.
    """
    return _with_declared_roots(_with_absolute_paths(validate(ExperimentConfig, values, where)))


def read_mapping(path: Path) -> dict[str, Any]:
    """Parse a YAML or JSON file that holds a mapping.

    Raises:
        ConfigError: unreadable, malformed, with a key twice, or not a mapping.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    return parse_mapping(text, str(path))


def parse_mapping(text: str, where: str) -> dict[str, Any]:
    """Parse YAML or JSON that holds a mapping.

    Args:
        text: the document.
        where: it came from, for the message.

    Raises:
        ConfigError: malformed, with a key twice, or not a mapping.
    """
    try:
        values = _parse(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{where}: not valid YAML: {_one_line(error)}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{where}: holds {type(values).__name__}, not a mapping of settings")
    return values


def apply_override(values: dict[str, Any], item: str) -> None:
    """Set one value in place.

    Args:
        values: the parsed experiment.
        item: `stages.distill.iterations=400`; a number steps into a list.

    Raises:
        ConfigError: not of this form, or the path leads through something that is not a mapping or list.
    """
    path, separator, text = item.partition("=")
    keys = path.split(".")
    if not separator or not all(keys):
        raise ConfigError(f"--set {item}: write it as key.sub=value, for instance stages.distill.iterations=400")
    try:
        value = _parse(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {item}: the value is not valid YAML: {_one_line(error)}") from None
    target: Any = values
    for depth, key in enumerate(keys[:-1], 1):
        target = _step(target, key, f"--set {item}: '{'.'.join(keys[:depth])}'")
    if isinstance(target, list):
        target[_index(target, keys[-1], f"--set {item}: '{path}'")] = value
    else:
        target[keys[-1]] = value


def _find(source: str) -> Path:
    path = Path(source)
    if path.is_file():
        return path
    if path.suffix in _SUFFIXES or len(path.parts) > 1:
        raise ConfigError(f"{source}: no such file")
    return _preset(source, "no such file or preset")


def _preset(name: str, what: str) -> Path:
    names = preset_names()
    if name not in names:
        close = difflib.get_close_matches(name, names, n=1)
        hint = f"did you mean '{close[0]}'?" if close else f"the presets are: {', '.join(names)}"
        raise ConfigError(f"'{name}': {what}; {hint}")
    return PRESETS / f"{name}.yaml"


def with_preset(values: dict[str, Any], where: str) -> dict[str, Any]:
    """Lay values over the preset that they name, if they name one.

    Raises:
        ConfigError: there is no such preset.
    """
    if "preset" not in values:
        return values
    name = values.pop("preset")
    path = _preset(str(name), f"no such preset, named in {where}")
    base = with_preset(read_mapping(path), str(path))
    return merged(base, values, replaced=_REPLACED)


def merged(base: Mapping[str, Any], over: Mapping[str, Any], replaced: Sequence[str] = ()) -> dict[str, Any]:
    """Return one mapping laid over another, section by section.

    Args:
        base: stays where `over` says nothing.
        over: wins.
        replaced: keys whose sections are replaced as a whole.
    """
    result = dict(base)
    for key, value in over.items():
        before = result.get(key)
        if isinstance(value, Mapping) and isinstance(before, Mapping) and key not in replaced:
            result[key] = merged(before, value)
        else:
            result[key] = value
    return result


def _step(target: Any, key: str, where: str) -> Any:
    """Return what lies at `key`, made as a mapping when absent."""
    if isinstance(target, list):
        index = _index(target, key, where)
        if target[index] is None:
            target[index] = {}
        found = target[index]
    else:
        if target.get(key) is None:
            target[key] = {}
        found = target[key]
    if not isinstance(found, dict | list):
        raise ConfigError(f"{where} is a value ({found!r}), it has nothing below it")
    return found


def _index(items: list[Any], key: str, where: str) -> int:
    if not key.isdecimal() or int(key) >= len(items):
        raise ConfigError(f"{where}: a list of {len(items)} needs a number from 0 to {len(items) - 1}, not '{key}'")
    return int(key)


def _with_absolute_paths(experiment: ExperimentConfig) -> ExperimentConfig:
    """Fix local data locations to the working directory, since stages may run in another one."""
    data = experiment.data.model_dump()
    for name in ("labeled", "val", "test"):
        if data[name] is not None:
            data[name] = {key: _absolute(location) for key, location in data[name].items()}
    data["unlabeled"] = [_absolute(location) for location in data["unlabeled"]]
    for source in [] if data["added"] is None else [*data["added"]["labeled"], data["added"]["test"]]:
        if source is not None:
            source |= {key: _absolute(location) for key, location in source.items()}
    return experiment.model_copy(update={"data": type(experiment.data).model_validate(data)})


def _with_declared_roots(experiment: ExperimentConfig) -> ExperimentConfig:
    """Let the store read what the experiment names: data and weights need not be listed a second time."""
    data = experiment.data
    sources = [source for source in (data.labeled, data.val, data.test) if source is not None]
    sources += [] if data.added is None else data.added.annotated().values()
    named = [location for source in sources for location in (source.annotations, source.images)] + data.unlabeled
    weights = [model.weights or model.encoder_weights for model in (experiment.teacher, experiment.student)]
    named += [location for location in weights if location]
    storage = experiment.storage
    roots = [*storage.read_roots, *(location for location in named if location.startswith("s3://"))]
    declared = storage.model_copy(update={"read_roots": list(dict.fromkeys(roots))})
    return experiment.model_copy(update={"storage": declared})


def _absolute(location: str) -> str:
    return location if "://" in location else os.path.abspath(os.path.expanduser(location))  # noqa: PTH100, PTH111


class _Loader(yaml.SafeLoader):
    """YAML without two surprises: a key given twice is an error, and `1e-4` is a number as in YAML 1.2."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node: yaml.MappingNode = super().compose_mapping_node(anchor)
        seen: set[str] = set()
        for key, _ in node.value:
            if key.value in seen and isinstance(key, yaml.ScalarNode):
                raise yaml.MarkedYAMLError(problem=f"key '{key.value}' is given twice", problem_mark=key.start_mark)
            seen.add(str(key.value))
        return node


_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _EXPONENT, list("-+0123456789."))


def _parse(text: str) -> Any:
    return _unshared(yaml.load(text, Loader=_Loader))  # noqa: S506 (a SafeLoader)


def _unshared(value: Any) -> Any:
    """Copy what YAML's aliases share, so that an override of one place leaves the others alone."""
    if isinstance(value, dict):
        return {key: _unshared(item) for key, item in value.items()}
    return [_unshared(item) for item in value] if isinstance(value, list) else value


def _one_line(error: yaml.YAMLError) -> str:
    return " ".join(str(error).split())
