"""Building a network from its configuration: the family's class, then weights if any are named."""

from __future__ import annotations

from importlib import import_module
from typing import Any, Literal

import torch
from transformers.models.mask2former.modeling_mask2former import Mask2FormerForUniversalSegmentation

from sskd_core.config.base import StrictModel, validate
from sskd_core.config.model import REGION_FAMILIES, ModelConfig
from sskd_core.errors import ConfigError
from sskd_core.models.class_layers import CLASS_HEADS, match_class_rows, restart_class_layers
from sskd_core.models.encoder_weights import encoder_tensors
from sskd_core.models.grounded_parts import open_parts, published_architecture
from sskd_core.models.mask2former_arch import network_config, published_arch, read_arch
from sskd_core.models.protocol import SegmentationModel
from sskd_core.models.published import to_installed_names
from sskd_core.models.weights import WeightFolder, copy_into, open_weights
from sskd_core.storage.store import ObjectStore

FORMAT: Literal["sskd-model/1"] = "sskd-model/1"
_FAMILIES = {
    "mask2former": "sskd_core.models.mask2former:Mask2Former",
    "dinov2_dpt": "sskd_core.models.dinov2_dpt:Dinov2Dpt",
    "grounded_sam": "sskd_core.models.grounded_sam:GroundedSam",
    "mask_rcnn": "sskd_core.models.mask_rcnn:MaskRcnn",
    "detectron2": "sskd_core.models.detectron2:Detectron2",
}
"""Imported when first built: importing all of them takes seconds, at the start of every stage."""
_DEFAULT_LABELS = {"0": "LABEL_0", "1": "LABEL_1"}
"""What `transformers` leaves out of a configuration, because it is its default."""


class ModelCard(StrictModel):
    """What `config.json` says beside weights of ours: enough to build the network and to prepare its input."""

    format: Literal["sskd-model/1"] = FORMAT
    model: ModelConfig
    classes: list[str]
    part: Literal["model", "encoder"] = "model"


def _family(name: str) -> type[SegmentationModel]:
    module, _, kind = _FAMILIES[name].partition(":")
    found: type[SegmentationModel] = getattr(import_module(module), kind)
    return found


def construct(config: ModelConfig, classes: list[str], seed: int) -> SegmentationModel:
    """Build a network with random values; equal seeds give equal values, and the global generator is left alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _family(config.family)(config, classes)


def build_model(config: ModelConfig, classes: list[str], store: ObjectStore | None, seed: int) -> SegmentationModel:
    """Build a network as a training stage starts with it.

    Args:
        config: family, architecture and weights.
        classes: of the data set. Where the weights know a class by the same name, its row of the class head is kept;
            other rows start from random values.
        store: for weights under `s3://`.
        seed: for every value that the weights do not give.

    Raises:
        ConfigError: the weights do not exist or are of another family.
        IntegrityError: names or shapes do not fit.
    """
    if config.weights is not None:
        folder = open_weights(config.weights, store, config.weights_digest)
        return _with_weights(config, classes, folder, seed)
    if config.grounding is not None and config.grounding.detector is not None:
        from sskd_core.models.grounded_sam import GroundedSam
        from sskd_core.models.grounded_weights import load_parts

        folders = open_parts(config.grounding, store)
        teacher = construct(published_architecture(config, folders), classes, seed)
        assert isinstance(teacher, GroundedSam)
        load_parts(teacher, folders)
        return teacher
    model = construct(config, classes, seed)
    if config.encoder_weights is not None:
        folder = open_weights(config.encoder_weights, store, config.weights_digest)
        encoder, tensors = model.encoder_module(), folder.tensors()
        if folder.config().get("format") != FORMAT:
            tensors = encoder_tensors(encoder, tensors)
        copy_into(encoder, tensors, f"encoder weights {folder.location}")
    return model


def describe_weights(config: ModelConfig, folder: WeightFolder) -> tuple[ModelConfig, list[str], str]:
    """Return the configuration that the weights were saved with, their classes, and the prefix of their names.

    The prefix is empty for weights of ours and `network.` for those that `transformers` saved.

    Raises:
        ConfigError: they are of another family, their configuration says nothing about one, or `config.arch` has an
            unknown key.
    """
    values = folder.config()
    _family(config.family).check_arch(config.arch)
    if values.get("format") == FORMAT:
        card = validate(ModelCard, values, f"weights {folder.location}: config.json")
        if card.model.family != config.family:
            raise ConfigError(f"weights {folder.location} are of family {card.model.family}, not {config.family}")
        return config.model_copy(update={"arch": _trained_as(card.model.arch, config)}), card.classes, ""
    if config.family == "mask2former" and values.get("model_type") == "mask2former":
        names = values.get("id2label", _DEFAULT_LABELS)
        classes = [names[key] for key in sorted(names, key=int)]
        return config.model_copy(update={"arch": _trained_as(published_arch(values), config)}), classes, "network."
    raise ConfigError(
        f"weights {folder.location}: config.json describes neither a model of ours nor a {config.family} model"
    )


def _trained_as(arch: dict[str, Any], config: ModelConfig) -> dict[str, Any]:
    """Return the architecture of weights, trained as the configuration says."""
    how = _family(config.family).training_keys
    own = {key: value for key, value in arch.items() if key not in how}
    return own | {key: config.arch[key] for key in how if key in config.arch}


def with_known_architecture(config: ModelConfig, store: ObjectStore | None) -> ModelConfig:
    """Return the configuration with the architecture of its weights, if it names whole ones.

    Raises:
        ConfigError: as `build_model`.
    """
    if config.weights is not None:
        return describe_weights(config, open_weights(config.weights, store, config.weights_digest))[0]
    if config.grounding is not None and config.grounding.detector is not None:
        return published_architecture(config, open_parts(config.grounding, store))
    return config


def _with_weights(config: ModelConfig, classes: list[str], folder: WeightFolder, seed: int) -> SegmentationModel:
    actual, known, prefix = describe_weights(config, folder)
    model = construct(actual, classes, seed)
    tensors = folder.tensors()
    if prefix:
        settings = network_config(read_arch(actual.arch), known)
        published = to_installed_names(Mask2FormerForUniversalSegmentation, settings, tensors)
        tensors = {f"{prefix}{name}": tensor for name, tensor in published.items() if not name.startswith("criterion.")}
    where = f"weights {folder.location}"
    if config.family in REGION_FAMILIES:
        if known != classes:
            narrow, wide = (construct(actual, [*known, *more], seed).state_dict() for more in ((), ("",)))
            restart_class_layers(model, tensors, narrow, wide, where)
    elif config.family in CLASS_HEADS:
        match_class_rows(model, CLASS_HEADS[config.family], tensors, known, where)
    copy_into(model, tensors, where)
    model.use_assets(folder.assets(), where)
    return model
