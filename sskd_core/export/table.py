"""The table of an exported model's variants: how large, how equal, how good, how fast."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the report shows the rows and does without PyTorch
    from sskd_core.export.latency import Latency
    from sskd_core.export.parity import Parity

BASE = "fp32"
"""The variant that every other is made from."""
_FIGURES = ("mask_ap", "mask_ap_loss", "latency_ms_p50", "latency_ms_p95", "bytes")


@dataclass(frozen=True)
class Variant:
    """One row.

    Attributes:
        precision: of the arithmetic.
        bytes: of the file.
        max_mask_logit_difference: to PyTorch; None for one that is not a number.
        max_class_logit_difference: likewise.
        mask_ap: points.
        mask_ap_loss: points against PyTorch; negative for a gain.
        latency_ms_p50: median time of one run on one image.
        latency_ms_p95: 95th percentile.
        delivered: whether the file is kept.
        reason: why it is, or is not.
    """

    precision: str
    bytes: int
    max_mask_logit_difference: float | None
    max_class_logit_difference: float | None
    mask_ap: float
    mask_ap_loss: float
    latency_ms_p50: float
    latency_ms_p95: float
    delivered: bool
    reason: str


def describe(precision: str, size: int, parity: Parity, latency: Latency, max_ap_loss: float) -> Variant:
    """Return the row of a file; it is delivered unless it loses too much.

    Args:
        precision: of the file.
        size: of the file, bytes.
        parity: to PyTorch.
        latency: of one run on one image.
        max_ap_loss: AP points; the base file has limits of its own.
    """
    loss = parity.mask_ap_loss
    delivered = precision == BASE or loss <= max_ap_loss
    if precision == BASE:
        reason = "equal to PyTorch within the limits"
    elif delivered:
        reason = f"loses {loss:.2f} AP, at most {max_ap_loss:g}"
    else:
        reason = f"loses {loss:.2f} AP, more than {max_ap_loss:g}"
    return Variant(
        precision=precision,
        bytes=size,
        max_mask_logit_difference=_finite(parity.max_mask_logit_difference),
        max_class_logit_difference=_finite(parity.max_class_logit_difference),
        mask_ap=parity.mask_ap_onnx,
        mask_ap_loss=loss,
        latency_ms_p50=latency.p50,
        latency_ms_p95=latency.p95,
        delivered=delivered,
        reason=reason,
    )


def rows(variants: Sequence[Variant]) -> list[dict[str, Any]]:
    """Return the table as plain JSON values."""
    return [asdict(item) for item in variants]


def metrics(variants: Sequence[Variant]) -> dict[str, float]:
    """Return the table as metrics, `<precision>/<figure>`."""
    return {f"{item.precision}/{name}": float(getattr(item, name)) for item in variants for name in _FIGURES}


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
