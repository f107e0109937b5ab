"""The manifest: the small JSON document by which stages hand over their results.

It names bytes (URI, digest, size) and never holds them. It is the last object that a stage writes, so a manifest that
can be read stands for a stage that finished.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, AwareDatetime, Field, FiniteFloat, model_validator

from sskd_core.config.base import StrictModel
from sskd_core.config.reference import Digest
from sskd_core.config.reference import InputRef as InputRef
from sskd_core.errors import IntegrityError
from sskd_core.storage.digest import canonical_json, digest_bytes, digest_json

MAX_BYTES = 100_000
MEDIA_TYPE = "application/vnd.sskd.manifest+json"


def _as_read_back(value: dict[str, Any]) -> dict[str, Any]:
    """Return `value` as JSON gives it back, so that a manifest just made equals the same one read from the store."""
    back: dict[str, Any] = json.loads(canonical_json(value))
    return back


JsonDict = Annotated[dict[str, Any], AfterValidator(_as_read_back)]


class ObjectRef(StrictModel):
    """One stored object."""

    name: str = Field(description="what a consumer asks for, unique in its manifest")
    uri: str = Field(pattern=r"^s3://")
    digest: Digest
    bytes: int = Field(ge=0)
    media_type: str = "application/octet-stream"


class Manifest(StrictModel):
    """What one stage read, did and wrote."""

    schema_version: Literal[1] = 1
    stage: str
    fingerprint: Digest
    inputs: dict[str, InputRef] = Field(default_factory=dict)
    outputs: list[ObjectRef] = Field(default_factory=list)
    metrics: dict[str, FiniteFloat] = Field(default_factory=dict)
    facts: JsonDict = Field(default_factory=dict, description="small JSON: classes, counts, parameters, verdicts")
    config: JsonDict = Field(default_factory=dict, description="the stage configuration that matters")
    config_digest: Digest
    code_digest: Digest
    seed: int | None = None
    licences: list[str] = Field(default_factory=list, description="of data and weights, inherited from all inputs")
    run_id: str | None = Field(None, description="MLflow run")
    created: AwareDatetime
    uri: str = Field(description="where this manifest itself lives")

    @model_validator(mode="after")
    def _output_names_are_unique(self) -> Manifest:
        twice = [name for name, count in Counter(item.name for item in self.outputs).items() if count > 1]
        if twice:
            raise ValueError(f"the stage {self.stage} has several outputs called '{twice[0]}'")
        return self

    def to_bytes(self) -> bytes:
        """Encode as canonical JSON.

        Raises:
            ValueError: over 100 KB; bytes belong into outputs.
        """
        data = canonical_json(self.model_dump(mode="json"))
        if len(data) > MAX_BYTES:
            raise ValueError(f"manifest of stage {self.stage} has {len(data)} bytes, more than {MAX_BYTES}")
        return data

    @property
    def digest(self) -> str:
        """The digest of the encoded manifest."""
        return digest_bytes(self.to_bytes())

    def output(self, name: str) -> ObjectRef:
        """Return the output called `name`.

        Raises:
            IntegrityError: this stage wrote no such output.
        """
        for item in self.outputs:
            if item.name == name:
                return item
        raise IntegrityError(f"{self.uri}: the {self.stage} stage has no output '{name}'; wrong manifest passed?")

    def outputs_like(self, prefix: str) -> list[ObjectRef]:
        """Return the outputs whose name starts with `prefix`, sorted by name."""
        return sorted((item for item in self.outputs if item.name.startswith(prefix)), key=lambda item: item.name)


def fingerprint(stage: str, config: Mapping[str, Any], inputs: Mapping[str, str], code: str) -> str:
    """Return the identity of a stage's result.

    Args:
        stage: stage name.
        config: the configuration that matters (`StrictModel.fingerprint_dict`).
        inputs: input name -> fingerprint of the input manifest. The fingerprint, not the digest of the file: a manifest
            also records when it was made, which changes no result.
        code: `code_digest()`.
    """
    return digest_json({"stage": stage, "config": dict(config), "inputs": dict(inputs), "code": code})
