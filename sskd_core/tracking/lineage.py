"""From the champion back to the images: which data, labels, teacher, configuration and code made a model.

Starts from nothing but the registry's alias. Every manifest on the way is read by digest, so an answer is either what
was true when the model was made, or an error.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from sskd_core.config.tracking import TrackingConfig
from sskd_core.errors import UserError
from sskd_core.storage.manifest import Manifest
from sskd_core.storage.store import ObjectStore
from sskd_core.tracking.client import connect
from sskd_core.tracking.registry import version_of

MANIFEST_TAG = "sskd.manifest."
"""Tags `sskd.manifest.<input>` of a version hold `<uri> <digest>` of the manifests that it was registered from."""


@dataclass(frozen=True)
class Step:
    """One stage on the way.

    Attributes:
        stage: its name.
        uri: of its manifest.
        digest: likewise.
        inputs: input name -> digest of the manifest that was read.
        config: the settings that mattered.
        code_digest: of the code that ran.
        run_id: MLflow run.
        licences: that hold from here on.
        facts: what the stage recorded.
        outputs: name -> URI of what it wrote.
    """

    stage: str
    uri: str
    digest: str
    inputs: dict[str, str]
    config: dict[str, Any]
    code_digest: str
    run_id: str | None
    licences: list[str]
    facts: dict[str, Any]
    outputs: dict[str, str]


@dataclass(frozen=True)
class Lineage:
    """A registered version and every stage behind it, the version's own first."""

    name: str
    version: str
    tags: dict[str, str]
    steps: list[Step] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)

    def stages(self, name: str) -> list[Step]:
        """Return the steps of one stage."""
        return [step for step in self.steps if step.stage == name]


def champion_lineage(tracking: TrackingConfig, store: ObjectStore, alias: str = "champion") -> Lineage:
    """Walk back from an alias.

    Raises:
        UserError: no version has the alias.
        IntegrityError: a manifest on the way is not the one that was used.
    """
    client = connect(tracking, store.config)
    found = version_of(client, tracking.registered_model, alias)
    if found is None:
        raise UserError(f"no version of model '{tracking.registered_model}' has the alias '{alias}'")
    origins = [value.split(" ") for key, value in sorted(found.tags.items()) if key.startswith(MANIFEST_TAG)]
    steps: dict[str, Step] = {}
    waiting = [(uri, digest) for uri, digest in origins]
    while waiting:
        uri, digest = waiting.pop(0)
        if digest not in steps:
            manifest = store.manifest(uri, digest)
            steps[digest] = _step(manifest)
            waiting += [(item.uri, item.digest) for item in manifest.inputs.values()]
    return Lineage(tracking.registered_model, str(found.version), dict(found.tags), list(steps.values()))


def _step(manifest: Manifest) -> Step:
    return Step(
        stage=manifest.stage,
        uri=manifest.uri,
        digest=manifest.digest,
        inputs={name: item.digest for name, item in manifest.inputs.items()},
        config=manifest.config,
        code_digest=manifest.code_digest,
        run_id=manifest.run_id,
        licences=manifest.licences,
        facts=manifest.facts,
        outputs={item.name: item.uri for item in manifest.outputs},
    )
