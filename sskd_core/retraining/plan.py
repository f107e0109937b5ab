"""From a champion and what is new to the experiment that goes on from it, and what of it is left to do.

The experiment is an ordinary one: the same pipeline runs it, here or on a cluster. What stands is named in
`takes_over` by URI and digest, so it is part of the run's identity.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass
from typing import Any, Literal

from sskd_core.config.experiment import ExperimentConfig
from sskd_core.config.graph import SSKD, Node
from sskd_core.config.loading import apply_override, complete
from sskd_core.config.reference import InputRef
from sskd_core.labels.earlier import made_by
from sskd_core.retraining.champion import Champion
from sskd_core.retraining.scan import Scan
from sskd_core.stages.contract import find
from sskd_core.storage.digest import code_digest
from sskd_core.storage.manifest import Manifest, fingerprint
from sskd_core.storage.store import ObjectStore

_ITERATIONS = "stages.distill.iterations="
State = Literal["stands", "found", "to run"]


@dataclass(frozen=True)
class Step:
    """One node of the run.

    Attributes:
        node: its name.
        state: `stands` from the champion's run, `found` from an earlier try, or `to run`.
        seconds: that the champion's run took for it, scaled to what is left to do; 0 unless it is to run.
    """

    node: str
    state: State
    seconds: float


@dataclass(frozen=True)
class Plan:
    """What a retrain would do.

    Attributes:
        champion: number of the version that it goes on from.
        new: images that are labelled and learned from.
        known: files whose content is in the data set already.
        copies: further files of new content.
        unreadable: a line each.
        others: files that are no images by their names.
        labeled: new annotated sources.
        steps: of the pipeline, in order.
    """

    champion: str
    new: int
    known: int
    copies: int
    unreadable: list[str]
    others: list[str]
    labeled: int
    steps: list[Step]

    @property
    def seconds(self) -> float:
        """Estimated compute time."""
        return sum(step.seconds for step in self.steps)

    @property
    def counts(self) -> str:
        """What was found, in words."""
        found = f"{self.new} new images, {self.known} known, {self.copies} copies, {len(self.unreadable)} unreadable"
        return f"{found}, {len(self.others)} not images by name" if self.others else found

    @property
    def skipped(self) -> list[str]:
        """A line for each file that is left out and that somebody may have meant."""
        return [*(f"unreadable: {line}" for line in self.unreadable), *(f"no image's name: {at}" for at in self.others)]

    def is_worth(self, minimum: int) -> bool:
        """Return whether there is enough to go on with: so many new images, or any new annotations."""
        return self.new >= minimum or self.labeled > 0

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {**asdict(self), "seconds": round(self.seconds, 1)}


def continued(
    champion: Champion, settings: Mapping[str, Any], overrides: Sequence[str], images: InputRef | None
) -> ExperimentConfig:
    """Return the experiment that goes on from a champion.

    Args:
        champion: where it starts.
        settings: its settings, with the new data under `data`.
        overrides: `key.sub=value`; they win.
        images: index of the new unlabelled images.

    Raises:
        ConfigError: a wrong override.
    """
    values = deepcopy(dict(settings))
    for item in overrides:
        apply_override(values, item)
    where = f"the settings of version {champion.version}"
    experiment = complete(values, where)
    retrain, added = experiment.retrain, experiment.data.added
    data = experiment.data.model_dump()
    data["added"] = {**(data["added"] or {}), "images": None if images is None else images.model_dump()}
    values["data"] = data
    if retrain.student == "continue" and not any(item.startswith(_ITERATIONS) for item in overrides):
        distill = dict(values["stages"]["distill"])
        distill["iterations"] = max(1, round(retrain.iterations_share * distill["iterations"]))
        distill["val_every"] = min(distill["val_every"], distill["iterations"])
        values["stages"] = {**values["stages"], "distill": distill}
    relabelled = added is not None and bool(added.labeled)
    values["takes_over"] = _taken_over(champion, experiment, new_labels=relabelled)
    return complete(values, where)


def _taken_over(champion: Champion, experiment: ExperimentConfig, new_labels: bool) -> dict[str, Any]:
    """Say what stands.

    A kept teacher stands with all that made it, and its labels of the old images hold unless the rules were changed. A
    teacher that is adapted starts from the champion's; the labels that it learns from are the old ones and its own of
    the new images.
    """
    adapts = experiment.retrain.teacher == "adapt"
    results = {} if new_labels else {"train_supervised": champion.reference("train_supervised")}
    inputs = {
        "prepare": {"earlier": champion.reference("prepare")},
        "evaluate": {"champion": champion.reference("refine")},
    }
    if made_by(champion.manifests["relabel"], experiment.stages.pseudo_label):
        inputs["pseudo_label" if adapts else "relabel"] = {"earlier": champion.reference("relabel")}
    if adapts:
        results["adapt_teacher"] = champion.reference("self_train_teacher")
        inputs["self_train_teacher"] = {"student": champion.reference("self_train_teacher")}
    else:
        kept = ("adapt_teacher", "pseudo_label", "self_train_teacher")
        results |= {name: champion.reference(name) for name in kept}
    if experiment.retrain.student == "continue":
        inputs["distill"] = {"student": champion.reference("refine")}
    named = {node: {key: item.model_dump() for key, item in own.items()} for node, own in inputs.items()}
    return {"results": {node: item.model_dump() for node, item in results.items()}, "inputs": named}


def plan_of(champion: Champion, found: Scan, experiment: ExperimentConfig, store: ObjectStore) -> Plan:
    """Return what a run of the experiment would do; nothing is read but manifests.

    Args:
        champion: where it starts.
        found: by the scan.
        experiment: by `continued`, with its digests.
        store: where results are looked for.
    """
    added = experiment.data.added
    return Plan(
        champion=champion.version,
        new=len(found.new),
        known=found.known,
        copies=found.copies,
        unreadable=found.unreadable,
        others=found.others,
        labeled=0 if added is None else len(added.annotated()),
        steps=_steps(champion, found, experiment, store),
    )


def _steps(champion: Champion, found: Scan, experiment: ExperimentConfig, store: ObjectStore) -> list[Step]:
    taken = experiment.takes_over
    assert taken is not None
    identities: dict[str, str] = {}
    steps: list[Step] = []
    for node in SSKD:
        if node.name in taken.results:
            reference = taken.results[node.name]
            identities[node.name] = store.manifest(reference.uri, reference.digest).fingerprint
            steps.append(Step(node.name, "stands", 0.0))
            continue
        inputs = {name: identities[source] for name, source in node.inputs.items()}
        for name, reference in taken.inputs.get(node.name, {}).items():
            inputs[name] = store.manifest(reference.uri, reference.digest).fingerprint
        settings = experiment.stage_config(node.name).fingerprint_dict()
        identities[node.name] = fingerprint(node.stage, settings, inputs, code_digest())
        is_done = find(store, node.stage, identities[node.name]) is not None
        seconds = 0.0 if is_done else _seconds(node, champion.manifests.get(node.name), found, experiment)
        steps.append(Step(node.name, "found" if is_done else "to run", seconds))
    return steps


def _seconds(node: Node, before: Manifest | None, found: Scan, experiment: ExperimentConfig) -> float:
    if before is None:
        return 0.0
    seconds = float(before.facts["seconds"]) + float(before.facts.get("worker_seconds", 0.0))
    if "train" in before.config:
        train = experiment.stage_config(node.name).model_dump()["train"]
        return seconds * float(train["iterations"]) / float(before.config["train"]["iterations"])
    labels_new_alone = experiment.takes_over is not None and "earlier" in experiment.takes_over.inputs.get(
        node.name, {}
    )
    if node.stage == "pseudo_label" and labels_new_alone:
        labelled = float(before.metrics.get("new_images", before.metrics["images"]))
        return seconds * len(found.new) / max(1.0, labelled)
    return 0.0 if node.stage == "prepare" else seconds
