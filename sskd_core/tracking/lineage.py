"""From the champion back to the images: which data, labels, teacher, configuration and code made a model.

Starts from nothing but the registry's alias. Every manifest on the way is read by digest, so an answer is either what
was true when the model was made, or an error. The short form of the answer is also among the tags of the version, for
whoever can reach MLflow and not the store.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from sskd_core.config.tracking import TrackingConfig
from sskd_core.storage.manifest import InputRef, Manifest
from sskd_core.storage.store import ObjectStore
from sskd_core.tracking.candidate import origin_references
from sskd_core.tracking.client import connect
from sskd_core.tracking.registry import aliases, resolve

ANSWERS = ("images", "labels", "teachers", "code", "runs")
"""Keys of `answers`, each a tag `sskd.lineage.<key>` of a version."""


@dataclass(frozen=True)
class Step:
    """One stage on the way.

    Attributes:
        stage: its name.
        uri: of its manifest.
        digest: likewise.
        inputs: input name -> digest of the manifest that was read; the edges of the graph.
        config: the settings that mattered.
        config_digest: of `config`.
        code_digest: of the code that ran.
        run_id: MLflow run.
        licences: that hold from here on.
        facts: what the stage recorded.
        metrics: likewise.
        outputs: name -> URI of what it wrote.
    """

    stage: str
    uri: str
    digest: str
    inputs: dict[str, str]
    config: dict[str, Any]
    config_digest: str
    code_digest: str
    run_id: str | None
    licences: list[str]
    facts: dict[str, Any]
    metrics: dict[str, float]
    outputs: dict[str, str]


@dataclass(frozen=True)
class Lineage:
    """A registered version and every stage behind it, each before those that it read."""

    name: str
    version: str
    aliases: list[str]
    tags: dict[str, str]
    steps: list[Step]

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values: the version, the answers, and all steps."""
        return {**asdict(self), **answers(self.steps)}


def version_lineage(tracking: TrackingConfig, store: ObjectStore, reference: str = "champion") -> Lineage:
    """Walk back from a registered version.

    Args:
        tracking: whose registry.
        store: where the manifests are.
        reference: an alias, a number or a `models:/` URI.

    Raises:
        UserError: there is no such version, or another tool registered it.
        IntegrityError: a manifest on the way is not the one that was used.
    """
    client = connect(tracking, store.config)
    found = resolve(client, tracking.registered_model, reference)
    references = origin_references(found.tags, f"version {found.version} of model '{found.name}'")
    number = str(found.version)
    own = sorted(alias for alias, version in aliases(client, found.name).items() if version == number)
    return Lineage(found.name, number, own, dict(found.tags), trace(references.values(), store))


def trace(origins: Iterable[InputRef], store: ObjectStore) -> list[Step]:
    """Read the manifests behind `origins`, each once and verified.

    Raises:
        IntegrityError: a manifest is not the one that its reader used.
        StorageError: it is gone.
    """
    steps: dict[str, Step] = {}
    waiting = list(origins)
    while waiting:
        reference = waiting.pop(0)
        if reference.digest not in steps:
            manifest = store.manifest(reference.uri, reference.digest)
            steps[reference.digest] = _step(manifest)
            waiting += manifest.inputs.values()
    return list(steps.values())


def answers(steps: Iterable[Step]) -> dict[str, Any]:
    """Return the short form, small enough for tags.

    Args:
        steps: of `trace`.

    Returns:
        `images`: by split, their number, where the index lies and its digest. `labels`: where the pseudo-labels lie,
        how many, and the fingerprint of the teacher that gave them. `teachers`: initial weights, their digest and
        licence, and the stage that adapted them. `code`: digests. `runs`: MLflow runs by stage, whose parameters are
        the configuration. `licences`: all that the model inherits.
    """
    every = list(steps)
    return {
        "images": [_images(step) for step in every if step.stage == "prepare"],
        "labels": [_labels(step) for step in every if step.stage == "pseudo_label"],
        "teachers": [_teacher(step) for step in every if step.stage == "adapt_teacher"],
        "code": sorted({step.code_digest for step in every}),
        "runs": [
            {"stage": step.stage, "manifest": step.uri, "config": step.config_digest, "run": step.run_id}
            for step in every
        ],
        "licences": sorted({licence for step in every for licence in step.licences}),
    }


def _images(step: Step) -> dict[str, Any]:
    folder = step.uri.rpartition("/")[0]
    digests: Mapping[str, str] = step.facts.get("digests", {})
    counts: Mapping[str, Mapping[str, int]] = step.facts["counts"]
    return {
        split: {"images": count["images"], "index": f"{folder}/images/{split}", "digest": digests.get(split)}
        for split, count in counts.items()
    }


def _labels(step: Step) -> dict[str, Any]:
    return {
        "manifest": step.uri,
        "shards": f"{step.uri.rpartition('/')[0]}/shards",
        "count": step.facts["shards"],
        "instances": int(step.metrics["instances"]),
        "teacher": step.inputs["teacher"],
    }


def _teacher(step: Step) -> dict[str, Any]:
    model = step.config["model"]
    return {
        "manifest": step.uri,
        "digest": step.digest,
        "family": model["family"],
        "weights": model.get("weights") or model.get("encoder_weights"),
        "weights_digest": model.get("weights_digest"),
        "licence": model["licence"],
    }


def _step(manifest: Manifest) -> Step:
    return Step(
        stage=manifest.stage,
        uri=manifest.uri,
        digest=manifest.digest,
        inputs={name: item.digest for name, item in manifest.inputs.items()},
        config=manifest.config,
        config_digest=manifest.config_digest,
        code_digest=manifest.code_digest,
        run_id=manifest.run_id,
        licences=manifest.licences,
        facts=manifest.facts,
        metrics=manifest.metrics,
        outputs={item.name: item.uri for item in manifest.outputs},
    )
