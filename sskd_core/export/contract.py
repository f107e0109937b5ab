"""What an exported model promises: named tensors, and everything that its user needs, in the file itself.

- `pixels` [batch, 3, H, W] float32, the input: an RGB image resized to fit H x W, padded with black at the bottom and
  right, scaled to 0..1, normalised by `mean` and `std`.
- `class_logits` [batch, Q, C+1]: the last column is "no object".
- `mask_logits` [batch, Q, h, w]: over the whole padded input.

Standard library only: the torch-free predictor reads the same class that the exporter writes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from sskd_core.errors import UserError

FORMAT = "sskd-onnx/1"
INPUT = "pixels"
OUTPUTS = ("class_logits", "mask_logits")
_PREFIX = "sskd."
_FORMAT_KEY = f"{_PREFIX}format"


@dataclass(frozen=True)
class Contract:
    """The metadata of an exported file.

    Attributes:
        classes: names in index order.
        colors: `#rrggbb` of each class, for drawing.
        height: of the input, pixels.
        width: likewise.
        mean: per RGB channel on a 0..1 scale.
        std: likewise.
        mask_threshold: probability above which a pixel belongs to a mask.
        family: of the network.
        manifest_uri: of the training stage that made the network.
        manifest_digest: of that manifest.
        licences: of all data and weights behind the network.
        figures: measured on the network, for instance `val_mask_ap` in points.
        resize_rule: how an image comes to H x W, in words.
        score_rule: what an instance's score is, in words.
    """

    classes: list[str]
    colors: list[str]
    height: int
    width: int
    mean: list[float]
    std: list[float]
    mask_threshold: float = 0.5
    family: str = "unknown"
    manifest_uri: str = ""
    manifest_digest: str = ""
    licences: list[str] = field(default_factory=list)
    figures: dict[str, float] = field(default_factory=dict)
    resize_rule: str = "fit inside height x width keeping the aspect ratio, bilinear; pad bottom and right with 0"
    score_rule: str = "softmax class probability x mean mask probability inside the mask"

    def to_metadata(self) -> dict[str, str]:
        """Return the entries of the file, `sskd.<name>` -> JSON text."""
        values = {"format": FORMAT, **asdict(self)}
        return {f"{_PREFIX}{name}": json.dumps(value, sort_keys=True) for name, value in values.items()}

    @classmethod
    def from_metadata(cls, stored: Mapping[str, str], where: str) -> Contract:
        """Read the entries of a file; entries of others are left out.

        Args:
            stored: what the file holds.
            where: its name, for the message.

        Raises:
            UserError: it is not a file of ours, of another version, or its entries are damaged.
        """
        if _FORMAT_KEY not in stored:
            raise UserError(f"{where}: not a model exported by sskd: it has no metadata '{_FORMAT_KEY}'")
        found = _value(stored, "format", where)
        if found != FORMAT:
            raise UserError(f"{where}: its format is {found!r}, this version of sskd reads {FORMAT!r}; export it again")
        return cls(**{item.name: _value(stored, item.name, where) for item in fields(cls)})


def _value(stored: Mapping[str, str], name: str, where: str) -> Any:
    try:
        return json.loads(stored[f"{_PREFIX}{name}"])
    except (KeyError, ValueError):
        raise UserError(f"{where}: its metadata '{_PREFIX}{name}' is missing or no JSON; export it again") from None
