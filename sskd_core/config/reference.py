"""Pointers to what is in the store: where it is, and the digest that proves it."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from sskd_core.config.base import StrictModel

Digest = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]


class InputRef(StrictModel):
    """A manifest that a stage read, or an object that a configuration names."""

    uri: str
    digest: Digest
