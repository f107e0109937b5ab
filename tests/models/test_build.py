"""Networks from a seed, from weights of ours, and from folders as `transformers` saves them."""

from __future__ import annotations

import json

import pytest
import torch
from engine_fixtures import ARCHES, CLASSES, final_logits, model_config, pixels, tiny_model
from safetensors.torch import load_file, save_file
from transformers import Dinov2Config, Dinov2Model
from transformers.models.dinov2.modeling_dinov2 import Dinov2Backbone
from transformers.models.mask2former.modeling_mask2former import Mask2FormerForUniversalSegmentation

from sskd_core.errors import ConfigError, IntegrityError
from sskd_core.models.build import build_model, construct
from sskd_core.models.mask2former_arch import network_config, read_arch
from sskd_core.models.trained import model_card
from sskd_core.models.weights import open_weights

FAMILIES = list(ARCHES)
FITTING = {"hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2, "patch_size": 8, "image_size": 32}
"""The settings of a published encoder that fits the tiny student."""


def save_own(model, folder):
    """Write a folder as a training stage delivers it."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(model_card(model)))
    save_file(dict(model.state_dict()), folder / "model.safetensors")
    return str(folder)


@pytest.fixture
def published_teacher(tmp_path):
    """A Mask2Former with classes of its own, and the folder that `transformers` saved it in."""
    torch.manual_seed(3)
    config = network_config(read_arch(ARCHES["mask2former"]), ["star", "moon", "disc"])
    network = Mask2FormerForUniversalSegmentation(config)
    network.save_pretrained(tmp_path / "published")
    return network, tmp_path / "published"


@pytest.mark.parametrize("family", FAMILIES)
def test_equal_seeds_give_equal_weights(family):
    first, again, other = (tiny_model(family, seed=seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


@pytest.mark.parametrize("family", FAMILIES)
def test_building_leaves_the_global_generator_alone(family):
    torch.manual_seed(11)
    before = torch.get_rng_state()
    tiny_model(family)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("family", FAMILIES)
def test_saved_weights_predict_the_same(family, tmp_path):
    saved = tiny_model(family, seed=5)
    location = save_own(saved, tmp_path / "weights")
    # The architecture of the weights wins over the one that is configured.
    loaded = build_model(model_config(family, weights=location, arch={}), CLASSES, None, seed=0)
    for ours, theirs in zip(final_logits(saved, pixels()), final_logits(loaded, pixels()), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("family", FAMILIES)
def test_class_rows_are_matched_by_name(family, tmp_path):
    saved = tiny_model(family, ["moon", "star", "disc"], seed=5)
    location = save_own(saved, tmp_path / "weights")
    loaded = build_model(model_config(family, weights=location), CLASSES, None, seed=0)
    known, found = final_logits(saved, pixels())[0], final_logits(loaded, pixels())[0]
    assert torch.allclose(found[..., 0], known[..., 2], atol=1e-6)  # disc
    assert torch.allclose(found[..., 2], known[..., 1], atol=1e-6)  # star
    assert torch.allclose(found[..., 3], known[..., 3], atol=1e-6)  # no object
    fresh = construct(model_config(family), CLASSES, seed=0)
    head = next(name for name in fresh.state_dict() if name.endswith(("class_head.weight", "class_predictor.weight")))
    assert torch.equal(loaded.state_dict()[head][1], fresh.state_dict()[head][1])  # box is new


def test_a_published_mask2former_predicts_the_same(published_teacher):
    network, folder = published_teacher
    config = model_config("mask2former", weights=str(folder), arch={})
    loaded = build_model(config, ["star", "moon", "disc"], None, seed=0)
    with torch.no_grad():
        expected = network.eval()(pixel_values=pixels())
    classes, masks = final_logits(loaded, pixels())
    assert torch.allclose(classes, expected.class_queries_logits, atol=1e-6)
    assert torch.allclose(masks, expected.masks_queries_logits, atol=1e-5)


def test_class_rows_of_a_published_mask2former_are_matched_by_name(published_teacher):
    network, folder = published_teacher
    loaded = build_model(model_config("mask2former", weights=str(folder)), CLASSES, None, seed=0)
    head = loaded.network.class_predictor.weight
    assert torch.equal(head[0], network.class_predictor.weight[2])
    assert torch.equal(head[2], network.class_predictor.weight[0])
    assert torch.equal(head[3], network.class_predictor.weight[3])
    assert loaded.classes == CLASSES


def test_published_weights_without_class_names_load(tmp_path):
    """Two unnamed classes are the default of `transformers`, which it does not write down."""
    config = network_config(read_arch(ARCHES["mask2former"]), ["LABEL_0", "LABEL_1"])
    Mask2FormerForUniversalSegmentation(config).save_pretrained(tmp_path)
    values = json.loads((tmp_path / "config.json").read_text())
    values.pop("id2label", None)
    (tmp_path / "config.json").write_text(json.dumps(values))
    loaded = build_model(model_config("mask2former", weights=str(tmp_path)), CLASSES, None, seed=0)
    assert loaded.network.class_predictor.weight.shape[0] == len(CLASSES) + 1


@pytest.mark.parametrize("kind", [Dinov2Model, Dinov2Backbone])
def test_a_published_dinov2_becomes_the_encoder(kind, tmp_path):
    torch.manual_seed(7)
    published = kind(Dinov2Config(**FITTING))
    published.save_pretrained(tmp_path)
    model = build_model(model_config(encoder_weights=str(tmp_path)), CLASSES, None, seed=0)
    expected, found = published.state_dict(), model.encoder.state_dict()
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    # The rest is as the seed makes it.
    fresh = tiny_model()
    assert torch.equal(model.class_head.weight, fresh.class_head.weight)


def test_loading_published_weights_says_nothing(tmp_path, capfd):
    Dinov2Model(Dinov2Config(**FITTING)).save_pretrained(tmp_path)
    capfd.readouterr()
    build_model(model_config(encoder_weights=str(tmp_path)), CLASSES, None, seed=0)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden_size": 32}, r"tensor 'embeddings\.\S+' has shape \[1, .*32\], the network wants \[1, .*16\]"),
        ({"num_hidden_layers": 5}, r"tensor 'encoder\.layer\.4\.\S+' is unknown to the network"),
        ({"num_hidden_layers": 3}, r"tensor 'encoder\.layer\.3\.\S+' is missing \(and \d+ more\)"),
    ],
    ids=["width", "too deep", "too shallow"],
)
def test_an_encoder_that_does_not_fit_is_refused(change, message, tmp_path):
    Dinov2Model(Dinov2Config(**{**FITTING, **change})).save_pretrained(tmp_path)
    with pytest.raises(IntegrityError, match=message):
        build_model(model_config(encoder_weights=str(tmp_path)), CLASSES, None, seed=0)


def test_encoder_weights_of_ours_load_by_their_own_names(tmp_path):
    donor = tiny_model(seed=9)
    (tmp_path / "config.json").write_text(json.dumps(model_card(donor) | {"part": "encoder"}))
    save_file(dict(donor.encoder_module().state_dict()), tmp_path / "model.safetensors")
    model = build_model(model_config(encoder_weights=str(tmp_path)), CLASSES, None, seed=0)
    assert all(
        torch.equal(ours, theirs)
        for ours, theirs in zip(model.encoder.parameters(), donor.encoder.parameters(), strict=True)
    )


def test_weights_of_another_family_are_refused(tmp_path):
    location = save_own(tiny_model(), tmp_path / "weights")
    with pytest.raises(ConfigError, match="are of family dinov2_dpt, not mask2former"):
        build_model(model_config("mask2former", weights=location), CLASSES, None, seed=0)


@pytest.mark.parametrize("document", [None, "{}", '{"model_type": "detr"}', '{"format": "sskd-model/9"}'])
def test_a_folder_that_does_not_say_what_it_holds_is_refused(document, tmp_path):
    save_file({"a": torch.zeros(1)}, tmp_path / "model.safetensors")
    if document is not None:
        (tmp_path / "config.json").write_text(document)
    with pytest.raises(ConfigError, match=r"config\.json describes neither a model of ours nor a mask2former model"):
        build_model(model_config("mask2former", weights=str(tmp_path)), CLASSES, None, seed=0)


def test_a_damaged_description_of_ours_is_refused(tmp_path):
    location = save_own(tiny_model(), tmp_path / "weights")
    (tmp_path / "weights" / "config.json").write_text('{"format": "sskd-model/1", "classes": []}')
    with pytest.raises(ConfigError, match=r"config\.json: 'model' is required"):
        build_model(model_config(weights=location), CLASSES, None, seed=0)


@pytest.mark.parametrize("classes", [CLASSES, ["moon"]], ids=["same classes", "other classes"])
def test_a_missing_tensor_is_named(classes, tmp_path):
    location = save_own(tiny_model(classes=classes), tmp_path / "weights")
    path = tmp_path / "weights" / "model.safetensors"
    save_file({name: value for name, value in load_file(path).items() if name != "class_head.bias"}, path)
    with pytest.raises(IntegrityError, match=r"tensor 'class_head\.bias' is missing"):
        build_model(model_config(weights=location), CLASSES, None, seed=0)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("classes", [CLASSES, ["moon", "sun"]], ids=["other classes", "same classes"])
def test_a_class_head_of_another_length_than_the_class_list_is_refused(family, classes, tmp_path):
    location = save_own(tiny_model(family, classes=["moon"]), tmp_path / "weights")
    path = tmp_path / "weights" / "config.json"
    path.write_text(path.read_text().replace('["moon"]', '["moon", "sun"]'))
    with pytest.raises(IntegrityError, match=r"class head scores 1 classes, config\.json names 2; one of") as caught:
        build_model(model_config(family, weights=location), classes, None, seed=0)
    assert "\n" not in str(caught.value)


def test_a_published_class_head_of_another_length_is_refused(published_teacher):
    _, folder = published_teacher
    path = folder / "config.json"
    values = json.loads(path.read_text())
    values["id2label"] = {"0": "star", "1": "moon"}
    path.write_text(json.dumps(values))
    with pytest.raises(IntegrityError, match=r"class head scores 3 classes, config\.json names 2") as caught:
        build_model(model_config("mask2former", weights=str(folder)), CLASSES, None, seed=0)
    assert "\n" not in str(caught.value)


def test_weights_that_changed_since_the_run_was_pinned_are_refused(tmp_path):
    location = save_own(tiny_model(), tmp_path / "weights")
    digest = open_weights(location, None).digest
    build_model(model_config(weights=location, weights_digest=digest), CLASSES, None, seed=0)
    with pytest.raises(IntegrityError, match="the run was started with sha256:000"):
        build_model(model_config(weights=location, weights_digest="sha256:" + "0" * 64), CLASSES, None, seed=0)


def test_unknown_keys_are_refused_though_weights_overrule_them(tmp_path):
    location = save_own(tiny_model(), tmp_path / "weights")
    with pytest.raises(ConfigError, match=r"family dinov2_dpt: unknown key 'dept'; did you mean 'depth'\?"):
        build_model(model_config(weights=location, arch={"dept": 4}), CLASSES, None, seed=0)
