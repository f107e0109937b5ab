"""Filling `grounded_sam` with the weights of the two networks that others published."""

from __future__ import annotations

from sskd_core.errors import ConfigError
from sskd_core.models.grounded_sam import TOKENIZER, GroundedSam
from sskd_core.models.published import to_installed_names
from sskd_core.models.tied import tied_names
from sskd_core.models.weights import WeightFolder, copy_into


def load_parts(model: GroundedSam, folders: dict[str, WeightFolder]) -> None:
    """Copy the published weights and take the detector's tokenizer.

    Args:
        model: with the architecture of the folders.
        folders: of `detector` and `segmenter`.

    Raises:
        ConfigError: no tokenizer, or a class that cannot be asked for.
        IntegrityError: names or shapes do not fit; the first one is named.
    """
    detector = folders["detector"]
    if TOKENIZER not in detector.assets():
        raise ConfigError(
            f"weights {detector.location}: no {TOKENIZER} there; save the detector's tokenizer beside its weights"
        )
    model.use_assets(detector.assets(), f"weights {detector.location}")
    for part, folder in folders.items():
        network = getattr(model, part)
        published = to_installed_names(type(network), network.config, folder.tensors())
        later = tied_names(network)
        once = {name: tensor for name, tensor in published.items() if name not in later}
        copy_into(network, once, f"weights {folder.location}")
