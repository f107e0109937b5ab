"""The encoder under its dense head."""

from __future__ import annotations

import pytest
import torch
from engine_fixtures import CLASSES, model_config, pixels, tiny_model

from sskd_core.models.dense_encoder import DenseEncoder, cell_accuracy


def test_maps_lie_on_a_grid_of_stride_four():
    assert DenseEncoder(model_config(), CLASSES).maps(pixels()).shape == (2, len(CLASSES) + 4, 8, 16)


def test_a_cell_reads_the_patch_that_it_lies_in():
    """With the encoder out of the way, a mark in one patch shows in the cells of that patch alone."""
    model = DenseEncoder(model_config(), CLASSES).eval()
    tokens = torch.zeros(1, 1 + 4 * 8, 16)
    tokens[0, 1 + 2 * 8 + 5] = 1.0  # patch in row 2, column 5
    model.encoder.forward = lambda inputs: type("Output", (), {"feature_maps": [tokens]})
    maps = model.maps(torch.zeros(1, 3, 32, 64))[0]
    # The four cells of a patch have biases of their own; compare with the same cell of the first patch.
    reference = maps[:, :2, :2].repeat(1, 4, 8)
    changed = (maps != reference).any(0)
    assert {tuple(place) for place in changed.nonzero().tolist()} == {(4, 10), (4, 11), (5, 10), (5, 11)}


def test_the_encoder_is_that_of_the_student():
    ours = DenseEncoder(model_config(), CLASSES).encoder_module().state_dict()
    assert ours.keys() == tiny_model().encoder_module().state_dict().keys()


def test_it_predicts_no_queries():
    with pytest.raises(NotImplementedError, match="maps, not queries"):
        DenseEncoder(model_config(), CLASSES)(pixels())


def test_accuracy_counts_cells_with_an_instance():
    model = DenseEncoder(model_config(), CLASSES).eval()
    category = torch.full((1, 8, 16), len(CLASSES))
    category[0, 0, :4] = 1
    logits = torch.zeros(1, len(CLASSES) + 4, 8, 16)
    logits[:, 1, 0, :3] = 1.0  # three of four are right; the fourth says class 0
    model.maps = lambda inputs: logits
    assert cell_accuracy(model, torch.zeros(1, 3, 32, 64), category) == 75.0
