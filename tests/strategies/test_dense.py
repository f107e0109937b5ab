"""Encoder pre-training: the dense loss on the labelled batch."""

from __future__ import annotations

import torch
from engine_fixtures import CLASSES, batch_loader, model_config, train_config

from sskd_core.losses.dense import dense_loss, dense_targets
from sskd_core.models.dense_encoder import STRIDE, DenseEncoder
from sskd_core.strategies.dense import DensePretraining


def test_the_terms_are_those_of_the_batch_and_reach_the_encoder():
    model = DenseEncoder(model_config(), CLASSES)
    terms = DensePretraining(batch_loader(train_config())).step(model, step=2)
    batch = batch_loader(train_config()).batch(2)
    targets = dense_targets(batch.labels, batch.masks, len(CLASSES), STRIDE)
    for name, value in dense_loss(model.maps(batch.pixels), *targets).items():
        assert torch.equal(terms.losses[f"dense_{name}"], value)
    sum(terms.losses.values()).backward()
    assert model.encoder.embeddings.cls_token.grad.abs().sum() > 0
