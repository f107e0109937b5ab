"""From a predicted object with a dense mask to the record that is stored, compared and drawn."""

from __future__ import annotations

from sskd_core.data.masks import encode_mask, mask_area, mask_bbox
from sskd_core.data.preprocess import RawInstance
from sskd_core.data.records import Instance


def encode_instance(raw: RawInstance) -> Instance:
    """Encode the mask; box and area are measured on it."""
    rle = encode_mask(raw.mask)
    return Instance(
        category=raw.category,
        rle=rle,
        score=raw.score,
        class_score=raw.class_score,
        mask_score=raw.mask_score,
        bbox=mask_bbox(rle),
        area=float(mask_area(rle)),
    )
