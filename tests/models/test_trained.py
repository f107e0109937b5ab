"""What one stage saves is what the next one builds from, through the real store."""

from __future__ import annotations

import pytest
import torch
from engine_fixtures import ARCHES, CLASSES, INPUT, delivered, final_logits, model_config, pixels, tiny_model

from sskd_core.errors import IntegrityError
from sskd_core.models.build import build_model
from sskd_core.models.trained import CONFIG, WEIGHTS, load_trained


@pytest.mark.parametrize("family", list(ARCHES))
def test_a_delivered_network_predicts_the_same(family, store):
    saved = tiny_model(family, seed=4)
    manifest = delivered(saved, store)
    loaded = load_trained(manifest, store)
    assert not loaded.training
    assert loaded.classes == CLASSES
    assert loaded.input == INPUT
    assert [ref.name for ref in manifest.outputs] == [CONFIG, WEIGHTS]
    for ours, theirs in zip(final_logits(saved, pixels()), final_logits(loaded, pixels()), strict=True):
        assert torch.equal(ours, theirs)


def test_the_delivered_prefix_serves_as_weights_of_another_run(store):
    saved = tiny_model(seed=4)
    location = delivered(saved, store).output(WEIGHTS).uri.rsplit("/", 1)[0]
    loaded = build_model(model_config(weights=location), CLASSES, store, seed=0)
    assert torch.equal(final_logits(saved, pixels())[1], final_logits(loaded, pixels())[1])


def test_changed_weights_are_refused(store):
    manifest = delivered(tiny_model(), store)
    ref = manifest.output(WEIGHTS)
    store.put(ref.uri, store.get(ref.uri)[:-1] + b"?")
    with pytest.raises(IntegrityError, match=r"model/model\.safetensors"):
        load_trained(manifest, store)


def test_the_manifest_of_a_stage_without_a_network_is_refused(store):
    manifest = delivered(tiny_model(), store).model_copy(update={"outputs": []})
    with pytest.raises(IntegrityError, match=r"has no output 'model/config\.json'; wrong manifest"):
        load_trained(manifest, store)
