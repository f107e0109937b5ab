"""What an exported model promises: named tensors, and everything that its user needs, in the file itself.

Inputs and outputs:

- `pixels` [batch, 3, H, W] float32: an RGB image resized to fit H x W, padded with black at the bottom and right,
  scaled to 0..1, normalised by `mean` and `std`.
- `class_logits` [batch, Q, C+1]: the last column is "no object".
- `mask_logits` [batch, Q, h, w]: over the whole padded input.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

FORMAT = "sskd-onnx/1"
INPUT = "pixels"
OUTPUTS = ("class_logits", "mask_logits")
RESIZE_RULE = "fit inside height x width keeping the aspect ratio, bilinear; pad bottom and right with 0"
SCORE_RULE = "softmax class probability x mean mask probability inside the mask"
MASK_THRESHOLD = 0.5


def metadata(
    classes: Sequence[str],
    height: int,
    width: int,
    mean: Sequence[float],
    std: Sequence[float],
    extra: Mapping[str, Any],
) -> dict[str, str]:
    """Return the file's metadata; every value is JSON text.

    Args:
        classes: names in index order.
        height: of the input, pixels.
        width: likewise.
        mean: per channel on a 0..1 scale.
        std: likewise.
        extra: further facts, such as manifest digest, licences and figures.
    """
    values: dict[str, Any] = {
        "format": FORMAT,
        "classes": list(classes),
        "height": height,
        "width": width,
        "mean": list(mean),
        "std": list(std),
        "resize_rule": RESIZE_RULE,
        "score_rule": SCORE_RULE,
        "mask_threshold": MASK_THRESHOLD,
        **extra,
    }
    return {f"sskd.{name}": json.dumps(value, sort_keys=True) for name, value in values.items()}


def parse_metadata(stored: Mapping[str, str]) -> dict[str, Any]:
    """Return the values that `metadata` wrote, without their prefix; what others wrote is left out."""
    return {key.removeprefix("sskd."): json.loads(text) for key, text in stored.items() if key.startswith("sskd.")}
