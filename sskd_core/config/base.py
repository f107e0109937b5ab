"""The base of every configuration model, and how its errors are told to a person.

Keys that are unknown are refused, values are never coerced silently, and a model is immutable once built. A field
marked `Runtime` changes how a stage runs (intervals, worker counts) but not what it computes, and so stays out of the
stage's fingerprint.
"""

from __future__ import annotations

import difflib
import types
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError

from sskd_core.config.address import hide_user
from sskd_core.errors import ConfigError


class _RuntimeMarker:
    """Marks a field that does not change a stage's result."""


_T = TypeVar("_T")
Runtime = Annotated[_T, _RuntimeMarker()]
ModelT = TypeVar("ModelT", bound="StrictModel")


class StrictModel(BaseModel):
    """An immutable model that forbids unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)

    def fingerprint_dict(self) -> dict[str, Any]:
        """Return the JSON-ready values that decide the result, without the `Runtime` fields."""
        values: dict[str, Any] = {}
        dumped = self.model_dump(mode="json")
        for name, field in type(self).model_fields.items():
            if any(isinstance(item, _RuntimeMarker) for item in field.metadata):
                continue
            values[name] = _deciding(getattr(self, name), dumped[name])
        return values


def _deciding(value: Any, dumped: Any) -> Any:
    """Return `dumped`, the JSON form of `value`, without the `Runtime` fields of the models in it."""
    if isinstance(value, StrictModel):
        return value.fingerprint_dict()
    if isinstance(value, (list, tuple)):
        return [_deciding(*pair) for pair in zip(value, dumped, strict=True)]
    if isinstance(value, dict):
        return {key: _deciding(item, dumped[key]) for key, item in value.items()}
    return dumped


def validate(model: type[ModelT], values: Mapping[str, Any], where: str) -> ModelT:
    """Build `model` from plain values.

    Args:
        model: the configuration class.
        values: a parsed YAML or JSON mapping.
        where: the file or option that the values came from, for the message.

    Raises:
        ConfigError: one line that names the first wrong key, with the closest known one, and counts the rest.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        # An unknown key comes first: it is often the misspelt form of one that is then missing.
        problems = sorted(error.errors(include_url=False), key=lambda item: item["type"] != "extra_forbidden")
        lines = [_explain(model, item) for item in problems]
        more = f" (and {len(lines) - 1} more)" if len(lines) > 1 else ""
        raise ConfigError(f"{where}: {lines[0]}{more}") from None


def unknown_key(path: str, known: Sequence[str]) -> str:
    """Return what to say of an unknown key: the closest known one, or all of them.

    Args:
        path: of the key, dotted.
        known: the keys beside its last part.
    """
    close = difflib.get_close_matches(path.rsplit(".", 1)[-1], known, n=1, cutoff=0.4)
    hint = f"did you mean '{close[0]}'?" if close else f"known keys: {', '.join(sorted(known))}"
    return f"unknown key '{path}'; {hint}"


def _explain(model: type[BaseModel], item: Mapping[str, Any]) -> str:
    location = [part for part in item["loc"] if not (isinstance(part, str) and "[" in part)]
    path = ".".join(str(part) for part in location)
    if item["type"] == "extra_forbidden":
        return unknown_key(path, list(_keys_at(model, location[:-1])))
    if item["type"] == "missing":
        return f"'{path}' is required"
    message = str(item["msg"]).removeprefix("Value error, ")
    return f"'{path}': {message[:1].lower()}{message[1:]}, got {hide_user(repr(item['input']))}" if path else message


def _keys_at(model: type[BaseModel], path: list[Any]) -> Iterator[str]:
    """Yield the field names of the model that sits at `path` below `model`."""
    current: list[type[BaseModel]] = [model]
    for part in path:
        found: list[type[BaseModel]] = []
        for candidate in current:
            field = candidate.model_fields.get(str(part))
            found += list(_models_in(field.annotation)) if field else []
        current = found or current
    for candidate in current:
        yield from candidate.model_fields


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif get_origin(annotation) in (Union, types.UnionType, list, dict, tuple, Annotated):
        for argument in get_args(annotation):
            yield from _models_in(argument)
