"""The contrastive term of a step: what receives gradient, which pixels take part, and what is logged."""

from __future__ import annotations

import pytest
import torch
from engine_fixtures import INPUT, Rectangles, batch_loader, tiny_model, train_config

from sskd_core.config.contrast import PixelContrastConfig
from sskd_core.data.loader import Batch
from sskd_core.errors import ConfigError
from sskd_core.losses.pixel_contrast import PixelContrast, fused_map
from sskd_core.losses.set_criterion import SetCriterion
from sskd_core.strategies.base import StepTerms
from sskd_core.strategies.contrast import ContrastTerm, _cells_inside, instance_map
from sskd_core.strategies.semi_supervised import SemiSupervised
from sskd_core.strategies.supervised import Supervised

FAMILIES = pytest.mark.parametrize("family", ["dinov2_dpt", "mask2former"])


def term(model, weight=0.1, iterations=10, **config) -> ContrastTerm:
    return ContrastTerm(model, PixelContrastConfig(**config), weight, iterations, seed=0)


def batch(step: int = 1, count: int = 3) -> Batch:
    return batch_loader(train_config(labeled_batch=count)).batch(step)


def apply(added: ContrastTerm, model, of: Batch, output=None, step=0) -> StepTerms:
    torch.manual_seed(0)
    terms = StepTerms({})
    added.add_to(terms, model, output or model(of.pixels), of.pixels, of, None, step)
    return terms


def some_gradient(module) -> bool:
    return any(parameter.grad is not None and bool(parameter.grad.any()) for parameter in module.parameters())


@FAMILIES
@pytest.mark.parametrize("detached", [False, True])
def test_gradient_reaches_encoder_and_projector_and_nothing_else(family, detached):
    model = tiny_model(family)
    added = term(model, fully_detached_strong=detached, feature_level=1)
    of = batch()
    output = model(of.pixels)
    for logits in (output.class_logits[-1], output.mask_logits[-1]):
        logits.retain_grad()
    apply(added, model, of, output).losses["pxl"].backward()
    assert some_gradient(model.encoder_module())
    assert some_gradient(added.projector)
    assert output.class_logits[-1].grad is None
    assert output.mask_logits[-1].grad is None
    heads = {"dinov2_dpt": lambda: model.class_head, "mask2former": lambda: model.network.class_predictor}
    assert not some_gradient(heads[family]())


@FAMILIES
def test_the_strong_pass_through_the_encoder_carries_no_gradient(family):
    model = tiny_model(family)
    of = batch()
    output = model(of.pixels)
    # The weak maps cut off: what is left of the encoder's gradient could only come through the strong view.
    output.encoder_levels = [level.detach() for level in output.encoder_levels]
    added = term(model, feature_level=1)
    apply(added, model, of, output).losses["pxl"].backward()
    assert not some_gradient(model)
    assert some_gradient(added.projector)


def test_detaching_the_strong_view_changes_the_projectors_gradient_and_not_the_value():
    def run(detached):
        model = tiny_model().eval()
        added = term(model, fully_detached_strong=detached)
        loss = apply(added, model, batch()).losses["pxl"]
        loss.backward()
        return float(loss), added.projector[0].weight.grad

    (value, gradient), (same_value, other_gradient) = run(False), run(True)
    assert value == same_value
    assert not torch.allclose(gradient, other_gradient)


def test_the_term_is_the_loss_of_the_pieces_times_its_weight():
    model = tiny_model().eval()
    added, of = term(model, weight=0.25, num_negatives=5, feature_level=2), batch()
    output = model(of.pixels)
    terms = apply(added, model, of, output, step=9)
    features = output.encoder_levels[2]
    shown = _cells_inside(of.content, (INPUT.height, INPUT.width), tuple(features.shape[2:]))
    y, _ = fused_map(output.class_logits[-1], output.mask_logits[-1], tuple(features.shape[2:]))
    weak = torch.nn.functional.normalize(added.projector(features.flatten(2).transpose(1, 2)[shown]), dim=-1)
    image = torch.arange(3)[:, None].expand_as(shown)[shown]
    torch.manual_seed(0)
    expected = PixelContrast(added.config)(weak, weak, y[shown], image, temperature=0.07)
    # The strong embeddings are not rebuilt here; the negatives and their similarities do not depend on them.
    assert terms.figures["contrast_negative"] == pytest.approx(float(expected.negative[expected.drawn].mean()))
    assert terms.figures["contrast_temperature"] == pytest.approx(0.07)
    half = term(model, weight=0.125, num_negatives=5, feature_level=2)
    assert float(terms.losses["pxl"]) == pytest.approx(2 * float(apply(half, model, of, output, 9).losses["pxl"]))


def test_padding_is_neither_anchor_nor_candidate():
    model = tiny_model().eval()
    of = batch()
    of.content = [(16, 40), (32, 64), (9, 8)]
    seen = {}

    class Spy(PixelContrast):
        def __call__(self, weak, strong, y, image, temperature, own=None):
            seen["image"] = image
            return super().__call__(weak, strong, y, image, temperature, own)

    added = term(model, feature_level=1)
    added._loss = Spy(added.config)
    apply(added, model, of)
    # Level 1 has cells of 4 pixels: 8 x 16 of them. A cell that padding touches is out.
    assert seen["image"].bincount().tolist() == [4 * 10, 8 * 16, 2 * 2]


def test_what_lies_in_the_padding_does_not_matter():
    model = tiny_model().eval()
    of, added = batch(), term(model, feature_level=1)
    of.content = [(16, 40), (32, 64), (32, 64)]
    output = model(of.pixels)
    value = apply(added, model, of, output).losses["pxl"]
    output.encoder_levels[1] = output.encoder_levels[1].clone()
    output.encoder_levels[1][0, :, 4:] = 9.0
    output.encoder_levels[1][0, :, :, 10:] = -9.0
    assert float(apply(added, model, of, output).losses["pxl"]) == pytest.approx(float(value))


def test_the_strong_view_leaves_the_running_statistics_alone():
    model = tiny_model("dinov2_dpt")
    model.encoder.extra_norm = torch.nn.BatchNorm2d(3)
    encode = model.encode
    model.encode = lambda pixels: encode(model.encoder.extra_norm(pixels))
    of = batch()
    output = model(of.pixels)
    added = term(model)
    before = model.encoder.extra_norm.running_mean.clone()
    apply(added, model.train(), of, output)
    assert torch.equal(model.encoder.extra_norm.running_mean, before)
    assert model.encoder.extra_norm.momentum == 0.1


def test_instances_are_numbered_through_the_batch_and_the_first_of_an_overlap_counts():
    first = torch.zeros(2, 8, 8)
    first[0, :4, :4] = 1
    first[1, :, :] = 1
    second = torch.zeros(1, 8, 8)
    second[0, 4:, 4:] = 1
    found = instance_map([first, second, torch.zeros(0, 8, 8)], images=4, size=(2, 2))
    assert found.tolist() == [[0, 1, 1, 1], [-1, -1, -1, 2], [-1] * 4, [-1] * 4]


def test_a_batch_without_a_foreground_pixel_has_a_loss_and_no_true_rate():
    model = tiny_model().eval()
    of = batch()
    of.masks = [mask[:0] for mask in of.masks]
    terms = apply(term(model), model, of)
    assert torch.isfinite(terms.losses["pxl"])
    assert float(terms.losses["pxl"]) > 0
    assert "contrast_fnr_truth" not in terms.figures
    assert "contrast_fnr_pred" in terms.figures


def test_both_strategies_add_the_term_over_all_images():
    model = tiny_model().eval()
    criterion = SetCriterion(train_config().criterion)
    labeled = batch_loader(train_config(labeled_batch=2))
    unlabeled = batch_loader(train_config(labeled_batch=3), Rectangles(), stream="unlabeled")
    added = term(model, feature_level=1)
    images = []
    loss = added._loss
    added._loss = lambda *arguments: images.append(int(arguments[3].max()) + 1) or loss(*arguments)
    for strategy in (Supervised(labeled, criterion, added), SemiSupervised(labeled, unlabeled, criterion, 1.0, added)):
        assert strategy.extra is added
        terms = strategy.step(model, 0)
        assert terms.losses["pxl"].requires_grad
        assert {"contrast_margin", "contrast_fnr_pred"} <= terms.figures.keys()
    assert images == [2, 5]


def test_the_projector_is_the_published_one_and_seeded():
    added, again = term(tiny_model(), projector_dim=32), term(tiny_model(), projector_dim=32)
    shapes = [tuple(parameter.shape) for parameter in added.projector.parameters()]
    assert shapes == [(32, 16), (32, 32), (32, 32)]
    for one, other in zip(added.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_level_that_the_encoder_does_not_have_is_refused():
    with pytest.raises(ConfigError, match="feature_level is 4, but the encoder has 4 levels"):
        term(tiny_model(), feature_level=4)


def test_one_image_cannot_be_contrasted_with_others():
    with pytest.raises(ValueError, match="needs at least two images"):
        train_config(labeled_batch=1, lambda_pxl=0.1, contrast=PixelContrastConfig(negative_scope="cross_image"))
    train_config(labeled_batch=1, contrast=PixelContrastConfig(negative_scope="cross_image"))
