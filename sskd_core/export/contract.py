"""What an exported model promises: named tensors, and everything that its user needs, in the file itself.

- `pixels` [batch, 3, H, W] float32, the input: an RGB image resized to fit H x W, padded with black at the bottom and
  right, scaled to 0..1, normalised by `mean` and `std`.

A file of task `instance` has two outputs:

- `class_logits` [batch, Q, C+1]: the last column is "no object".
- `mask_logits` [batch, Q, h, w]: over the whole padded input.

A file of task `semantic` has one:

- `semantic_logits` [batch, C, h, w]: over the whole padded input.

All outputs are float32, whatever the precision inside. Standard library only: the torch-free predictor reads the same
class that the exporter writes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

from sskd_core.errors import UserError

Task = Literal["instance", "semantic"]

FORMAT = "sskd-onnx/2"
INPUT = "pixels"
OUTPUTS: dict[Task, tuple[str, ...]] = {
    "instance": ("class_logits", "mask_logits"),
    "semantic": ("semantic_logits",),
}
SCORE_RULES: dict[Task, str] = {
    "instance": "softmax class probability x mean mask probability inside the mask",
    "semantic": "softmax class probability of the pixel",
}
_PREFIX = "sskd."


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
        task: which outputs the graph has, and how they become a prediction.
        precision: of the arithmetic inside: `fp32`, `fp16`, `int8_dynamic` or `int8_static`.
        mask_threshold: probability above which a pixel belongs to a mask; of no use to a semantic model.
        family: of the network.
        manifest_uri: of the training stage that made the network.
        manifest_digest: of that manifest.
        licences: of all data and weights behind the network.
        figures: measured on the network, for instance `test_mask_ap` in points.
        evaluator: name and version of what measured them.
        resize_rule: how an image comes to H x W, in words.
        score_rule: what a score is, in words.
    """

    classes: list[str]
    colors: list[str]
    height: int
    width: int
    mean: list[float]
    std: list[float]
    task: Task = "instance"
    precision: str = "fp32"
    mask_threshold: float = 0.5
    family: str = "unknown"
    manifest_uri: str = ""
    manifest_digest: str = ""
    licences: list[str] = field(default_factory=list)
    figures: dict[str, float] = field(default_factory=dict)
    evaluator: str = ""
    resize_rule: str = "fit inside height x width keeping the aspect ratio, bilinear; pad bottom and right with 0"
    score_rule: str = SCORE_RULES["instance"]

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
            UserError: it is not a file of ours, of another version, or its entries are missing or damaged; the message
                names them.
        """
        names = [item.name for item in fields(cls)]
        missing = [f"{_PREFIX}{name}" for name in ("format", *names) if f"{_PREFIX}{name}" not in stored]
        if f"{_PREFIX}format" in missing:
            raise UserError(f"{where}: not a model exported by sskd: it lacks the metadata {', '.join(missing)}")
        found = _value(stored, "format", where)
        if found != FORMAT:
            raise UserError(f"{where}: its format is {found!r}, this version of sskd reads {FORMAT!r}; export it again")
        if missing:
            raise UserError(f"{where}: it lacks the metadata {', '.join(missing)}; export it again")
        contract = cls(**{name: _value(stored, name, where) for name in names})
        if contract.task not in OUTPUTS:
            raise UserError(f"{where}: its task is {contract.task!r}; this version of sskd knows {', '.join(OUTPUTS)}")
        return contract


def _value(stored: Mapping[str, str], name: str, where: str) -> Any:
    try:
        return json.loads(stored[f"{_PREFIX}{name}"])
    except ValueError:
        raise UserError(f"{where}: its metadata '{_PREFIX}{name}' is no JSON; export it again") from None
