"""The two networks that `grounded_sam` is made of, as files: where they are, which they are, how they are built.

Torch is not imported, so that a run can pin their digests without it.
"""

from __future__ import annotations

from sskd_core.config.grounding import GroundingConfig
from sskd_core.config.model import ModelConfig
from sskd_core.errors import ConfigError
from sskd_core.models.architecture import architecture
from sskd_core.models.weights import WeightFolder, open_weights
from sskd_core.storage.store import ObjectStore

_TYPES = {"detector": ("mm-grounding-dino",), "segmenter": ("sam2", "sam2_video")}
"""`model_type` of what fits; a SAM 2 for video holds the one for images."""
_OF_IMAGES = ("vision_config", "prompt_encoder_config", "mask_decoder_config")


def open_parts(grounding: GroundingConfig, store: ObjectStore | None) -> dict[str, WeightFolder]:
    """Bring the files of `detector` and `segmenter` to the local disk.

    Raises:
        ConfigError: nothing there, or a network of another kind.
        IntegrityError: the files changed since their digest was taken.
    """
    folders = {}
    for part, kinds in _TYPES.items():
        location = getattr(grounding, part)
        folder = open_weights(location, store, getattr(grounding, f"{part}_digest"))
        kind = folder.config().get("model_type")
        if kind not in kinds:
            raise ConfigError(
                f"weights {location}: config.json describes a model of type {kind}, grounding.{part} takes {kinds[0]}"
            )
        folders[part] = folder
    return folders


def published_architecture(config: ModelConfig, folders: dict[str, WeightFolder]) -> ModelConfig:
    """Return the configuration with the architectures of the parts in place of its own."""
    detector, segmenter = (architecture(folders[part].config()) for part in _TYPES)
    segmenter = {key: segmenter[key] for key in _OF_IMAGES if key in segmenter}
    return config.model_copy(update={"arch": {"detector": detector, "segmenter": segmenter}})
