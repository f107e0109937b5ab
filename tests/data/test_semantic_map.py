from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from sskd_core.data.semantic_map import SemanticMap, regions_of, semantic_map_from_logits


def test_class_and_confidence_are_those_of_a_softmax_over_upsampled_logits() -> None:
    logits = np.random.default_rng(0).normal(0, 4, (5, 12, 16)).astype(np.float32)
    found = semantic_map_from_logits(logits, (24, 32), (24, 32), (48, 64))
    full = functional.interpolate(torch.from_numpy(logits)[None], (48, 64), mode="bilinear", align_corners=False)
    confidence, category = full[0].softmax(0).max(0)
    np.testing.assert_array_equal(found.category, category.numpy())
    np.testing.assert_allclose(found.confidence, confidence.numpy(), atol=1e-5)


def test_the_padding_is_cut_off() -> None:
    logits = np.zeros((2, 8, 8), dtype=np.float32)
    logits[0, :4, :4], logits[1, 4:], logits[1, :, 4:] = 9.0, 9.0, 9.0
    found = semantic_map_from_logits(logits, (32, 32), (16, 16), (40, 40))
    # Up to half a cell from the border, where the padding's logits have a say.
    assert (found.category[:35, :35] == 0).all()


def test_equal_classes_and_large_logits() -> None:
    tied = semantic_map_from_logits(np.zeros((4, 2, 2), dtype=np.float32), (2, 2), (2, 2), (2, 2))
    assert (tied.category == 0).all()
    np.testing.assert_allclose(tied.confidence, 0.25)
    huge = np.array([[[1e4]], [[-1e4]], [[1e4]]], dtype=np.float32)
    np.testing.assert_allclose(semantic_map_from_logits(huge, (1, 1), (1, 1), (1, 1)).confidence, 0.5)


def test_regions_are_the_classes_that_occur() -> None:
    category = np.array([[2, 2], [0, 2]], dtype=np.uint16)
    confidence = np.array([[0.5, 0.7], [1.0, 0.9]], dtype=np.float32)
    regions = regions_of(SemanticMap(category, confidence))
    assert [(item.category, item.mask.sum()) for item in regions] == [(0, 1), (2, 3)]
    assert [item.score for item in regions] == pytest.approx([1.0, 0.7])
