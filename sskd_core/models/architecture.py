"""Architectures as `transformers` describes them: what is wrong with one, told in a line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from huggingface_hub.errors import StrictDataclassError

from sskd_core.errors import ConfigError

_NOT_ARCHITECTURE = {
    "architectures",
    "model_type",
    "id2label",
    "label2id",
    "transformers_version",
    "torch_dtype",
    "dtype",
}


def architecture(values: dict[str, Any]) -> dict[str, Any]:
    """Keep what defines the network of an official configuration and drop how it was saved and used."""
    return {key: value for key, value in values.items() if key not in _NOT_ARCHITECTURE and not key.startswith("_")}


@contextmanager
def explained(what: str) -> Iterator[None]:
    """Turn what `transformers` says about a wrong architecture into an error of one line.

    Args:
        what: whose architecture it is.
    """
    try:
        yield
    except (KeyError, ValueError, TypeError, AssertionError, AttributeError, StrictDataclassError) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise ConfigError(f"{what}: the architecture is not valid: {reason}") from error
