"""Fixing which weights a run starts from, by digest, before anything is trained.

A folder or a prefix can change under the same name. The digest goes into the configuration, from there into every
fingerprint, and is checked again when the weights are read.
"""

from __future__ import annotations

from sskd_core.config.experiment import ExperimentConfig
from sskd_core.config.model import ModelConfig
from sskd_core.models.grounded_parts import open_parts
from sskd_core.models.weights import open_weights
from sskd_core.storage.store import ObjectStore


def pin_weights(experiment: ExperimentConfig, store: ObjectStore | None) -> ExperimentConfig:
    """Return the experiment with the digests of the teacher's and the student's initial weights.

    Args:
        experiment: digests that are already there are kept.
        store: needed for weights under `s3://`.

    Raises:
        ConfigError: weights that do not exist.
    """
    return experiment.model_copy(
        update={"teacher": _pinned(experiment.teacher, store), "student": _pinned(experiment.student, store)}
    )


def _pinned(model: ModelConfig, store: ObjectStore | None) -> ModelConfig:
    if model.grounding is not None and model.grounding.detector is not None:
        digests = {f"{part}_digest": folder.digest for part, folder in open_parts(model.grounding, store).items()}
        return model.model_copy(update={"grounding": model.grounding.model_copy(update=digests)})
    location = model.weights or model.encoder_weights
    if location is None or model.weights_digest is not None:
        return model
    return model.model_copy(update={"weights_digest": open_weights(location, store).digest})
