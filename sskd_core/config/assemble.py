"""From a filled-in form to an experiment, and back.

Later ones win: the document under `experiment`, the form's other fields, the document under `overrides`. A whole
experiment filled into the form and read back is the same experiment.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from sskd_core.config.experiment import ExperimentConfig
from sskd_core.config.loading import complete, merged, parse_mapping, with_preset
from sskd_core.config.parameters import EVERY_PARAMETER, EXPERIMENT, FORMS, OVERRIDES
from sskd_core.errors import ConfigError

_WHERE = "the pipeline's parameters"


def assemble(values: Mapping[str, Any]) -> ExperimentConfig:
    """Build the experiment that a form describes.

    Args:
        values: by parameter name, see `config/parameters.py`; one that is missing or empty leaves the setting as it is.

    Raises:
        ConfigError: one line that names the field.
    """
    settings = _settings(values)
    try:
        return complete(settings, _WHERE)
    except ConfigError as error:
        raise ConfigError(_with_field_names(str(error))) from None


def storage_section(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of the store alone, also of a form whose other fields are wrong.

    Raises:
        ConfigError: `experiment` or `overrides` cannot be read, or the section is no mapping.
    """
    section = _settings(values).get("storage", {})
    if not isinstance(section, dict):
        raise ConfigError(f"{_WHERE}: 'storage' must be a mapping, got {section!r}")
    return section


def fill_in(experiment: ExperimentConfig) -> dict[str, Any]:
    """Return the form of an experiment: its fields show what holds, `experiment` has all of it."""
    document = experiment.model_dump(mode="json")
    form: dict[str, Any] = {}
    for parameter in FORMS[experiment.method]:
        if parameter.path:
            value: Any = document
            for key in parameter.path.split("."):
                value = value[key]
            form[parameter.name] = parameter.type() if value is None else _as(parameter.type, value)
    return form | {EXPERIMENT: experiment.model_dump_json(), OVERRIDES: {}}


def _as(kind: type, value: Any) -> Any:
    """Return a value as its field shows it: a text field has text alone."""
    return str(value) if kind is str else value


def _settings(values: Mapping[str, Any]) -> dict[str, Any]:
    text = values.get(EXPERIMENT) or "{}"
    settings = with_preset(parse_mapping(text, f"the parameter '{EXPERIMENT}'"), f"the parameter '{EXPERIMENT}'")
    for parameter in EVERY_PARAMETER:
        value = values.get(parameter.name)
        # Zero is a value; an empty text or list is none.
        if parameter.path and value is not None and value not in ("", [], ()):
            settings = merged(settings, _nested(parameter.path.split("."), value))
    overrides = values.get(OVERRIDES) or {}
    if not isinstance(overrides, Mapping):
        raise ConfigError(f"the parameter '{OVERRIDES}' must be a JSON object, got {overrides!r}")
    return merged(settings, _whole_numbers(overrides))


def _nested(keys: list[str], value: Any) -> dict[str, Any]:
    return {keys[0]: _nested(keys[1:], value) if len(keys) > 1 else value}


def _whole_numbers(value: Any) -> Any:
    """Undo what KFP's struct type does to numbers: it knows floats only, so 400 arrives as 400.0."""
    if isinstance(value, Mapping):
        return {key: _whole_numbers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_whole_numbers(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _with_field_names(message: str) -> str:
    """Name the form's field beside the setting."""
    names = {parameter.path: parameter.name for parameter in EVERY_PARAMETER if parameter.path}

    def named(match: re.Match[str]) -> str:
        name = names.get(match[1])
        return match[0] if name is None or name == match[1] else f"'{name}' ({match[1]})"

    return re.sub(r"'([a-z_.]+)'", named, message)
