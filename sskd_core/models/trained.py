"""The weights that our own stages hand to each other: `config.json` and `model.safetensors` below a stage's prefix."""

from __future__ import annotations

import json
from typing import Any

import torch
from safetensors.torch import load, save

from sskd_core.config.base import validate
from sskd_core.config.model import ModelConfig
from sskd_core.models.build import FORMAT, construct
from sskd_core.models.protocol import SegmentationModel
from sskd_core.models.weights import copy_into
from sskd_core.storage.digest import canonical_json
from sskd_core.storage.manifest import Manifest, ObjectRef
from sskd_core.storage.store import ObjectStore

_FOLDER = "model"
CONFIG, WEIGHTS = f"{_FOLDER}/config.json", f"{_FOLDER}/model.safetensors"


def model_card(model: SegmentationModel) -> dict[str, Any]:
    """Return what `config.json` holds: enough to build the network again and to prepare its input."""
    config = model.config
    return {
        "format": FORMAT,
        "model": {
            "family": config.family,
            "arch": config.arch,
            "input": config.input.model_dump(mode="json"),
            "licence": config.licence,
        }
        | _grounding(config),
        "classes": model.classes,
    }


def _grounding(config: ModelConfig) -> dict[str, Any]:
    """Return the section without where the parts once came from."""
    if config.grounding is None:
        return {}
    sources = {"detector", "detector_digest", "segmenter", "segmenter_digest"}
    return {"grounding": config.grounding.model_dump(mode="json", exclude=sources)}


def save_trained(model: SegmentationModel, store: ObjectStore, prefix: str) -> list[ObjectRef]:
    """Write a network below `prefix`; the folder is one that `models.weights.open_weights` reads too."""
    tensors = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    assets = sorted(model.assets.items())
    return [
        store.put_output(CONFIG, f"{prefix}/{CONFIG}", canonical_json(model_card(model)), "application/json"),
        store.put_output(WEIGHTS, f"{prefix}/{WEIGHTS}", save(tensors)),
        *(store.put_output(f"{_FOLDER}/{name}", f"{prefix}/{_FOLDER}/{name}", data) for name, data in assets),
    ]


def load_trained(manifest: Manifest, store: ObjectStore) -> SegmentationModel:
    """Load the network that a training stage delivered, in eval mode, on the best device there is.

    Raises:
        IntegrityError: the bytes are not those of the manifest, or do not fit the network.
    """
    card = json.loads(store.read(manifest.output(CONFIG)))
    config = validate(ModelConfig, card["model"], manifest.output(CONFIG).uri)
    model = construct(config, list(card["classes"]), seed=0)
    copy_into(model, load(store.read(manifest.output(WEIGHTS))), manifest.output(WEIGHTS).uri)
    beside = {ref.name: ref for ref in manifest.outputs if ref.name.startswith(f"{_FOLDER}/")}
    assets = {name.removeprefix(f"{_FOLDER}/"): store.read(beside[name]) for name in beside.keys() - {CONFIG, WEIGHTS}}
    model.use_assets(assets, manifest.uri)
    return model.eval().to(default_device())


def default_device() -> torch.device:
    """Return CUDA when there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
