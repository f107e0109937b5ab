"""The record of who is champion: an append-only log in the object store, one object a decision.

MLflow can set an alias but not compare and set it, so two promoters could each act on what the other has just changed.
Here a decision is a conditional put: of several promoters exactly one writes decision n+1, and the others look again.
The aliases in MLflow follow the newest decision and can be set anew from it at any time.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Iterator
from typing import Any, Literal
from urllib.parse import quote

from pydantic import AwareDatetime, Field, ValidationError

from sskd_core.config.base import StrictModel
from sskd_core.errors import IntegrityError
from sskd_core.storage.digest import canonical_json
from sskd_core.storage.store import ObjectStore

_MEDIA_TYPE = "application/json"


class Holder(StrictModel):
    """A version that has an alias. The fingerprint is its identity: a registry made anew numbers again."""

    version: str
    fingerprint: str | None = Field(description="null for a version that another tool registered")


class Decision(StrictModel):
    """One change of the champion."""

    schema_version: Literal[1] = 1
    number: int = Field(ge=1)
    id: str = Field(default_factory=lambda: uuid.uuid4().hex, description="of the one attempt that wrote it")
    action: Literal["promote", "rollback"]
    champion: Holder
    previous: Holder | None
    gate: dict[str, Any] | None = Field(None, description="the record that allowed it")
    forced: bool = Field(False, description="whether a rule failed and a person decided otherwise")
    reason: str | None = Field(None, description="of the person who forced or rolled back")
    created: AwareDatetime = Field(default_factory=lambda: dt.datetime.now(dt.UTC))


class DecisionLog:
    """The decisions about one alias of one registered model.

    Args:
        store: where they are kept, below `{root}/registry/`.
        name: of the registered model.
        alias: whose holder is decided.
    """

    def __init__(self, store: ObjectStore, name: str, alias: str) -> None:
        self._store = store
        self._prefix = f"{store.root}/registry/{quote(name, safe='')}/{alias}"

    def head(self) -> Decision | None:
        """Return the newest decision, or None.

        Raises:
            IntegrityError: it cannot be read.
        """
        uris = self._uris()
        return self._read(uris[-1]) if uris else None

    def all(self) -> Iterator[Decision]:
        """Yield the decisions, oldest first."""
        for uri in self._uris():
            yield self._read(uri)

    def append(self, decision: Decision) -> bool:
        """Write a decision unless its number is taken; return whether it now stands."""
        data = canonical_json(decision.model_dump(mode="json"))
        uri = self._uri(decision.number)
        # A put whose answer was lost says that it was not the first, so what stands is looked at.
        return self._store.put_if_absent(uri, data, _MEDIA_TYPE) or self._read(uri).id == decision.id

    def _uri(self, number: int) -> str:
        return f"{self._prefix}/{number:08d}.json"

    def _uris(self) -> list[str]:
        return [item.uri for item in self._store.list(self._prefix)]

    def _read(self, uri: str) -> Decision:
        try:
            return Decision.model_validate_json(self._store.get(uri))
        except ValidationError:
            raise IntegrityError(f"{uri}: not a promotion record of this release; restore it or move it away") from None
