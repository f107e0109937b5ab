"""The real-size teacher on random values: a step, and the way through a folder and the object store."""

from __future__ import annotations

import json
import resource

import pytest
import torch
from engine_fixtures import delivered
from grounding_fixtures import tokenizer
from safetensors.torch import save_file

from sskd_core.config.model import InputConfig, ModelConfig
from sskd_core.config.train import OptimizerConfig, SetCriterionConfig
from sskd_core.losses.grounding import GroundingCriterion
from sskd_core.losses.set_criterion import Target
from sskd_core.models.build import build_model, construct
from sskd_core.models.grounded_sam import GroundedSam
from sskd_core.models.sam_masks import sam_large
from sskd_core.models.trained import load_trained, model_card
from sskd_core.training.optimizer import make_optimizer

pytestmark = pytest.mark.slow
CLASSES = ["disc", "box"]
CONFIG = ModelConfig(
    family="grounded_sam",
    arch={"segmenter": sam_large(256)},
    grounding={"train_mask_decoder": True},
    input=InputConfig(height=96, width=128),
)
GIGABYTES = 24


def values(model: GroundedSam) -> list[float]:
    """Return one number of every tensor."""
    return [float(tensor.flatten()[-1]) for tensor in model.state_dict().values()]


def test_it_trains_for_a_step_and_is_saved_and_loaded(tmp_path, store):
    model = construct(CONFIG, CLASSES, seed=0)
    assert isinstance(model, GroundedSam)
    model.use_assets({"tokenizer.json": tokenizer().backend_tokenizer.to_str().encode()}, "test")
    optimizer = make_optimizer(model, OptimizerConfig(lr=1e-5))
    before = values(model)
    masks = torch.zeros(1, 96, 128)
    masks[0, 20:60, 30:90] = 1.0
    output = model.train()(torch.randn(1, 3, 96, 128, generator=torch.Generator().manual_seed(0)))
    losses = GroundingCriterion(SetCriterionConfig())(output, [Target(torch.tensor([1]), masks)])
    total = sum(losses.values()) + output.encoder_levels[-1].square().mean()
    total.backward()
    optimizer.step()
    after = values(model)
    assert torch.isfinite(total)
    assert sum(one != other for one, other in zip(before, after, strict=True)) > 500
    del optimizer, output, total, losses
    model.zero_grad(set_to_none=True)

    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(model_card(model)))
    (folder / "tokenizer.json").write_bytes(model.assets["tokenizer.json"])
    save_file(dict(model.state_dict()), folder / "model.safetensors")
    manifest = delivered(model, store)
    del model
    from_folder = build_model(CONFIG.model_copy(update={"weights": str(folder)}), CLASSES, None, seed=1)
    assert values(from_folder) == after
    del from_folder
    assert values(load_trained(manifest, store)) == after
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < GIGABYTES * 2**20
