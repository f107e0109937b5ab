"""The champion that a retrain goes on from: every manifest behind it by node, and its weights, verified."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sskd_core.config.experiment import ExperimentConfig
from sskd_core.config.gate import GateConfig
from sskd_core.config.graph import SSKD, node
from sskd_core.config.loading import merged
from sskd_core.config.tracking import TrackingConfig
from sskd_core.errors import IntegrityError, StorageError, UserError
from sskd_core.models.trained import CONFIG, WEIGHTS
from sskd_core.storage.manifest import InputRef, Manifest
from sskd_core.storage.store import ObjectStore
from sskd_core.tracking.candidate import ORIGINS, origin_references
from sskd_core.tracking.client import connect
from sskd_core.tracking.policy import policy_of
from sskd_core.tracking.registry import resolve

_ORIGIN_NODES = {"student": "refine", "evaluation": "evaluate", "onnx": "export_onnx"}
_WEIGHTS_OF = ("refine", "self_train_teacher")


@dataclass(frozen=True)
class Champion:
    """A registered version to go on from.

    Attributes:
        name: of the registered model.
        version: its number.
        manifests: by node of the pipeline.
        distillation: settings of the first distillation behind it, from which no retrain has cut iterations yet.
        policy: of the gate that judged it.
    """

    name: str
    version: str
    manifests: Mapping[str, Manifest]
    distillation: Mapping[str, Any]
    policy: GateConfig

    def reference(self, name: str) -> InputRef:
        """Return the reference of a node's manifest."""
        return InputRef(uri=self.manifests[name].uri, digest=self.manifests[name].digest)

    def settings(self, base: ExperimentConfig | None) -> dict[str, Any]:
        """Return the values of the experiment that made it.

        Args:
            base: what decides no result, such as batches and numbers of workers, is taken from here; None for the
                defaults.
        """
        found = self.manifests
        trained = {name: found[name].config["train"] for name in ("adapt_teacher", "self_train_teacher", "refine")}
        made = {
            "name": "retrain",
            "seed": found["prepare"].config["seed"],
            "data": {**found["prepare"].config["data"], "sources_digest": None, "added": None},
            "takes_over": None,
            "teacher": found["self_train_teacher"].config["model"],
            "student": found["refine"].config["model"],
            "stages": {
                **trained,
                "train_supervised": found["train_supervised"].config["train"],
                "distill": self.distillation,
                "pseudo_label": found["relabel"].config["label"],
                "evaluate": found["evaluate"].config,
                "export_onnx": found["export_onnx"].config,
                "gate": self.policy.model_dump(mode="json"),
            },
        }
        given = {} if base is None else base.model_dump(mode="json")
        return merged(given, made, replaced=("data", "teacher", "student"))


def open_champion(tracking: TrackingConfig, store: ObjectStore, reference: str) -> Champion:
    """Find a version and prove that all that a retrain needs of it is there.

    Args:
        tracking: whose registry.
        store: where its results are.
        reference: an alias, a number or a `models:/` URI.

    Raises:
        UserError: there is no such version, another tool made it, or a manifest or weights are gone or altered; the
            message has the digests.
    """
    version = resolve(connect(tracking, store.config), tracking.registered_model, reference)
    called = f"version {version.version} of model '{version.name}'"
    references = origin_references(version.tags, called)
    try:
        origins = {_ORIGIN_NODES[name]: references[name] for name in ORIGINS if name in references}
        manifests = _by_node(origins, store)
        for name in _WEIGHTS_OF:
            for output in (manifests[name].output(CONFIG), manifests[name].output(WEIGHTS)):
                with _named(output.digest):
                    store.read(output)
        distillation = _first_distillation(manifests["distill"], store)
    except (IntegrityError, StorageError) as error:
        raise UserError(f"cannot go on from {called}: {error}") from None
    return Champion(version.name, str(version.version), manifests, distillation, policy_of(version, None, store))


def _by_node(origins: Mapping[str, InputRef], store: ObjectStore) -> dict[str, Manifest]:
    """Walk from the last nodes to the first, each manifest by its digest."""
    waiting = dict(origins)
    found: dict[str, Manifest] = {}
    while waiting:
        name, reference = waiting.popitem()
        manifest = _manifest(reference, store)
        found[name] = manifest
        for key, source in node(name).inputs.items():
            if key in manifest.inputs and source not in found:
                waiting.setdefault(source, manifest.inputs[key])
    missing = [item.name for item in SSKD if item.name not in found and item.name != "register"]
    if missing:
        raise IntegrityError(f"nothing leads to its stage '{missing[0]}'; it was not made by this pipeline")
    return found


def _first_distillation(distill: Manifest, store: ObjectStore) -> dict[str, Any]:
    """Follow the students back to the run that started from initial weights."""
    current = distill
    while "student" in current.inputs:
        current = _manifest(_manifest(current.inputs["student"], store).inputs["student"], store)
    settings: dict[str, Any] = current.config["train"]
    return settings


def _manifest(reference: InputRef, store: ObjectStore) -> Manifest:
    with _named(reference.digest):
        return store.manifest(reference.uri, reference.digest)


@contextmanager
def _named(digest: str) -> Iterator[None]:
    """Say what was lost: a store that cannot give an object does not know what it was."""
    try:
        yield
    except StorageError as error:
        raise StorageError(f"{error}; its digest was {digest}") from None
