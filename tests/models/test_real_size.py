"""Networks at their real size: training steps, and out to a store and a folder and back."""

from __future__ import annotations

import pytest
import torch

from sskd_core.config.contrast import PixelContrastConfig
from sskd_core.config.model import InputConfig, ModelConfig
from sskd_core.config.train import SetCriterionConfig
from sskd_core.data.loader import Batch
from sskd_core.losses.set_criterion import SetCriterion, Target
from sskd_core.models.build import build_model
from sskd_core.models.trained import CONFIG, WEIGHTS, save_trained
from sskd_core.strategies.base import StepTerms, targets_of
from sskd_core.strategies.contrast import ContrastTerm

CLASSES = ["car", "person"]
SIZE = InputConfig(height=256, width=512)


@pytest.mark.slow
def test_a_step_of_the_whole_objective_and_a_round_trip(store, tmp_path):
    config = ModelConfig(family="dinov2_dpt", input=SIZE)
    model = build_model(config, CLASSES, None, seed=0).train()
    assert 48e6 < sum(parameter.numel() for parameter in model.parameters()) < 56e6
    masks = torch.zeros(2, SIZE.height, SIZE.width)
    masks[0, :100, :100] = masks[1, 120:, 200:400] = 1.0
    pixels = torch.randn(2, 3, SIZE.height, SIZE.width, generator=torch.Generator().manual_seed(0))
    batch = Batch(pixels, [torch.tensor([0, 1])] * 2, [masks] * 2, [(SIZE.height, SIZE.width)] * 2)
    term = ContrastTerm(model, PixelContrastConfig(), 0.1, 1, seed=0)
    output = model(pixels)
    terms = StepTerms(SetCriterion(SetCriterionConfig())(output, targets_of(batch, pixels.device)))
    term.add_to(terms, model, output, pixels, batch, None, 0)
    torch.stack(list(terms.losses.values())).sum().backward()
    optimizer = torch.optim.AdamW([*model.parameters(), *term.parameters()], lr=1e-5)
    assert all(parameter.grad is not None for parameter in term.parameters())
    optimizer.step()
    prefix = f"{store.root}/stages/distill/real"
    save_trained(model, store, prefix)
    folder = tmp_path / "model"
    folder.mkdir()
    for name in (CONFIG, WEIGHTS):
        (folder / name.rsplit("/", 1)[1]).write_bytes(store.get(f"{prefix}/{name}"))
    expected = model.state_dict()
    for weights in (f"{prefix}/model", str(folder)):
        found = build_model(config.model_copy(update={"weights": weights}), CLASSES, store, seed=1).state_dict()
        assert all(torch.equal(found[name], value) for name, value in expected.items())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["r50", "swin_t", "swin_s", "swin_b", "swin_l", "dinov2_b", "dinov2_l", "deit_b"])
def test_a_mask2former_of_each_backbone_learns(name):
    size = InputConfig(height=96, width=160)
    config = ModelConfig(family="mask2former", arch={"backbone": name}, input=size)
    model = build_model(config, CLASSES, None, seed=0).train()
    pixels = torch.randn(1, 3, size.height, size.width, generator=torch.Generator().manual_seed(0))
    masks = torch.zeros(1, size.height, size.width)
    masks[0, :60, :100] = 1.0
    output = model(pixels)
    assert output.mask_logits[-1].shape == (1, 100, 24, 40)
    assert len(output.mask_logits) == 10
    targets = [Target(torch.tensor([1]), masks)]
    sum(SetCriterion(SetCriterionConfig(num_points=1024))(output, targets).values()).backward()
    idle = [key for key, value in model.named_parameters() if value.requires_grad and value.grad is None]
    assert idle == []
