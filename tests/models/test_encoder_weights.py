"""Published backbones, bare models and classifiers as the encoder of a Mask2Former."""

from __future__ import annotations

import pytest
import torch
from engine_fixtures import CLASSES
from mask2former_fixtures import MICRO, micro, micro_config
from transformers import (
    Dinov2Config,
    Dinov2ForImageClassification,
    Dinov2Model,
    ResNetBackbone,
    ResNetConfig,
    ResNetForImageClassification,
    ResNetModel,
    SwinConfig,
    SwinForImageClassification,
    SwinModel,
    ViTConfig,
    ViTForImageClassification,
    ViTModel,
)

from sskd_core.errors import IntegrityError
from sskd_core.models.build import build_model

KINDS = {
    "r50": (ResNetConfig, [ResNetModel, ResNetBackbone, ResNetForImageClassification]),
    "swin_t": (SwinConfig, [SwinModel, SwinForImageClassification]),
    "dinov2_b": (Dinov2Config, [Dinov2Model, Dinov2ForImageClassification]),
    "deit_b": (ViTConfig, [ViTModel, ViTForImageClassification]),
}
CASES = [(backbone, kind) for backbone, (_, kinds) in KINDS.items() for kind in kinds]


def published(backbone: str, kind, folder, **change):
    torch.manual_seed(7)
    values = MICRO[backbone] | change
    network = kind(KINDS[backbone][0](**values))
    network.save_pretrained(folder)
    return network


@pytest.mark.parametrize(("backbone", "kind"), CASES, ids=lambda case: getattr(case, "__name__", case))
def test_a_published_encoder_loads(backbone, kind, tmp_path):
    network = published(backbone, kind, tmp_path).eval()
    config = micro_config(backbone).model_copy(update={"encoder_weights": str(tmp_path)})
    model = build_model(config, CLASSES, None, seed=0).eval()
    theirs = network.base_model.state_dict()
    ours = model.encoder_module().state_dict()
    assert len(ours) > 10
    for name, value in ours.items():
        if name.startswith("hidden_states_norms"):
            assert torch.equal(value, torch.full_like(value, float(name.endswith("weight"))))
        else:
            assert torch.equal(value, theirs[name.removeprefix("swin.")]), name
    # The rest is as the seed makes it.
    assert torch.equal(model.network.class_predictor.weight, micro(backbone).network.class_predictor.weight)


@pytest.mark.parametrize(
    ("backbone", "change", "message"),
    [
        ("swin_t", {"embed_dim": 32}, r"tensor '\S+' has shape \[\S+.*\], the network wants \["),
        ("r50", {"depths": [1, 1, 1, 2]}, "is unknown to the network"),
        ("deit_b", {"num_hidden_layers": 1}, r"is missing \(and \d+ more\)"),
    ],
)
def test_an_encoder_that_does_not_fit_is_refused_in_one_line(backbone, change, message, tmp_path):
    published(backbone, KINDS[backbone][1][0], tmp_path, **change)
    config = micro_config(backbone).model_copy(update={"encoder_weights": str(tmp_path)})
    with pytest.raises(IntegrityError, match=message) as caught:
        build_model(config, CLASSES, None, seed=0)
    assert "\n" not in str(caught.value)
