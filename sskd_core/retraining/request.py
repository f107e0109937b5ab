"""A request to go on from a model with new data, made into a plan and the experiment that fulfils it.

Whoever runs experiments can take it from here: this machine, or a cluster that reaches the same store and registry.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

from sskd_core.config.data import AddedData, LabeledSource
from sskd_core.config.experiment import ExperimentConfig
from sskd_core.config.tracking import TrackingConfig
from sskd_core.data.dataset import SPLITS, Dataset
from sskd_core.retraining.champion import Champion, open_champion
from sskd_core.retraining.plan import Plan, continued, plan_of
from sskd_core.retraining.scan import keep_scan, list_files, scan
from sskd_core.stages.configure import pinned
from sskd_core.storage.store import ObjectStore


@dataclass(frozen=True)
class RetrainRequest:
    """What a person asks for.

    Attributes:
        unlabeled: places to look for new images in.
        labeled: new annotated sources.
        test: a new test split, or None to keep the champion's.
        model: version to go on from: an alias, a number or a `models:/` URI.
        base: an experiment for what decides no result; None for the defaults.
        overrides: `key.sub=value`.
    """

    unlabeled: Sequence[str]
    labeled: Sequence[LabeledSource] = ()
    test: LabeledSource | None = None
    model: str = "champion"
    base: ExperimentConfig | None = None
    overrides: Sequence[str] = ()


class Retrain:
    """A request at one store and registry.

    Args:
        request: what is asked for.
        tracking: whose registry.
        store: of the champion's results, and of the new ones.

    Raises:
        UserError: the model to go on from, or something of it, is not there; with digests.
        ConfigError: a wrong override.
    """

    def __init__(self, request: RetrainRequest, tracking: TrackingConfig, store: ObjectStore) -> None:
        self._request = request
        self._champion = open_champion(tracking, store, request.model)
        self._settings = _settings(request, self._champion, tracking, store)
        draft = continued(self._champion, self._settings, request.overrides, None)
        self._max_pixels = draft.data.max_pixels
        self._store = ObjectStore(draft.storage)
        self.config = draft.retrain

    def prepare(
        self, write: bool, step: Callable[[int, int], None] = lambda done, total: None
    ) -> tuple[Plan, ExperimentConfig]:
        """Look for new images and make the experiment that goes on with them.

        Args:
            write: whether new images and their index go into the store; without it nothing is written anywhere.
            step: called with (files read, files in all).

        Raises:
            DataError: a place does not exist, or too many files cannot be read.
            StorageError: the store failed.
        """
        data = self._champion.manifests["prepare"]
        dataset = Dataset.load(data, self._store)
        known = {record.digest for split in SPLITS for record in dataset.images(split)}
        generation = int(data.facts.get("generation", 0)) + 1
        places = self._request.unlabeled
        found = scan(places, known, self._store, self.config, self._max_pixels, generation, copy=write, step=step)
        images = keep_scan(found, self._store, write)
        experiment = continued(self._champion, self._settings, self._request.overrides, images)
        experiment = pinned(experiment, self._store)
        return plan_of(self._champion, found, experiment, self._store), experiment

    def listing(self) -> frozenset[Hashable]:
        """Return what identifies each file of the places, without reading one."""
        return frozenset((file.location, file.bytes) for _, _, file in list_files(self._request.unlabeled, self._store))


def _settings(
    request: RetrainRequest, champion: Champion, tracking: TrackingConfig, store: ObjectStore
) -> dict[str, Any]:
    """Return the champion's settings, with this store and registry and the new sources."""
    values = champion.settings(request.base)
    added = AddedData(labeled=list(request.labeled), test=request.test)
    unlabeled = list(dict.fromkeys([*values["data"]["unlabeled"], *request.unlabeled]))
    return {
        **values,
        "data": {**values["data"], "unlabeled": unlabeled, "added": added.model_dump(mode="json")},
        "storage": store.config.model_dump(mode="json"),
        "tracking": tracking.model_dump(mode="json"),
    }
