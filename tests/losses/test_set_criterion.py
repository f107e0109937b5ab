"""The set loss equals the reference formulation, term by term, and an independent derivation in numpy."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import Mask2FormerConfig
from transformers.models.mask2former.modeling_mask2former import Mask2FormerLoss

from sskd_core.config.train import SetCriterionConfig
from sskd_core.losses.set_criterion import SetCriterion, Target
from sskd_core.models.protocol import QueryOutput

CLASSES, QUERIES, SIZE = 3, 6, (8, 16)
POINTS = 40


@pytest.fixture
def shared_points(monkeypatch: pytest.MonkeyPatch) -> Tensor:
    """Let every draw return the first rows of one fixed point set, whoever asks and however many masks there are."""
    points = torch.rand(4 * POINTS, 2, generator=torch.Generator().manual_seed(5))

    def rand(*shape: int, device: object = None) -> Tensor:
        return points[: shape[1]].expand(shape).contiguous()

    monkeypatch.setattr(torch, "rand", rand)
    return points


def predictions(depths: int, images: int, seed: int = 0) -> QueryOutput:
    source = torch.Generator().manual_seed(seed)
    return QueryOutput(
        class_logits=[torch.randn(images, QUERIES, CLASSES + 1, generator=source) for _ in range(depths)],
        mask_logits=[3 * torch.randn(images, QUERIES, *SIZE, generator=source) for _ in range(depths)],
        encoder_levels=[],
    )


def targets(*counts: int, seed: int = 1) -> list[Target]:
    source = torch.Generator().manual_seed(seed)
    return [
        Target(
            torch.randint(CLASSES, (count,), generator=source),
            torch.randint(2, (count, 4 * SIZE[0], 4 * SIZE[1]), generator=source).float(),
        )
        for count in counts
    ]


def criterion(**values: float) -> SetCriterion:
    return SetCriterion(SetCriterionConfig(**{"num_points": POINTS, **values}))


def reference(output: QueryOutput, wanted: list[Target], config: SetCriterionConfig) -> dict[str, Tensor]:
    """Return the terms of `transformers`, weighted and summed over depths."""
    settings = Mask2FormerConfig(
        id2label=dict(enumerate("abc")),
        class_weight=config.class_weight,
        mask_weight=config.mask_weight,
        dice_weight=config.dice_weight,
        no_object_weight=config.no_object_weight,
        train_num_points=config.num_points,
        oversample_ratio=config.oversample_ratio,
        importance_sample_ratio=config.importance_ratio,
    )
    auxiliary = [
        {"masks_queries_logits": masks, "class_queries_logits": classes}
        for masks, classes in zip(output.mask_logits[:-1], output.class_logits[:-1], strict=True)
    ]
    losses = Mask2FormerLoss(settings, {})(
        output.mask_logits[-1],
        output.class_logits[-1],
        [item.masks for item in wanted],
        [item.labels for item in wanted],
        auxiliary,
    )
    weights = {"class": config.class_weight, "mask": config.mask_weight, "dice": config.dice_weight}
    names = {"class": "loss_cross_entropy", "mask": "loss_mask", "dice": "loss_dice"}
    return {
        term: weights[term] * sum(value for name, value in losses.items() if name.startswith(names[term]))
        for term in names
    }


@pytest.mark.parametrize("counts", [(2, 4), (1, 1), (3, 0), (8, 2)], ids=str)
@pytest.mark.parametrize("depths", [1, 4])
def test_each_term_is_that_of_the_reference(shared_points, counts, depths):
    ours = criterion(oversample_ratio=3.0, importance_ratio=0.75)
    output, wanted = predictions(depths, len(counts)), targets(*counts)
    found = ours(output, wanted)
    for name, value in reference(output, wanted, ours.config).items():
        assert float(found[name]) == pytest.approx(float(value), rel=1e-5), name


@pytest.mark.parametrize("seed", range(8))
def test_random_batches_score_as_the_reference(shared_points, seed):
    """Any number of depths, images and instances: images without one, and more of them than there are queries."""
    source = np.random.default_rng(seed)
    counts = [int(source.integers(0, 2 * QUERIES)) for _ in range(int(source.integers(1, 5)))]
    counts += [0, QUERIES + 3] if seed % 2 else [1]
    weights = {f"{name}_weight": float(source.uniform(0.5, 6.0)) for name in ("class", "mask", "dice")}
    ours = criterion(**weights, no_object_weight=float(source.uniform(0.05, 1.0)))
    output, wanted = predictions(int(source.integers(1, 6)), len(counts), seed), targets(*counts, seed=seed)
    found = ours(output, wanted)
    for name, value in reference(output, wanted, ours.config).items():
        assert float(found[name]) == pytest.approx(float(value), rel=1e-5), (name, counts)


def test_instances_that_do_not_teach_their_mask_teach_their_class_alone(shared_points):
    """Their pairs leave the mask terms; matching, classes and the number of instances stay."""
    output, wanted = predictions(2, 2), targets(2, 3)
    everything = criterion()(output, wanted)
    all_teach = [Target(item.labels, item.masks, torch.ones_like(item.labels, dtype=torch.bool)) for item in wanted]
    assert criterion()(output, all_teach) == everything
    halves = []
    for kept in (True, False):
        choice = [torch.arange(len(item.labels)) % 2 == int(kept) for item in wanted]
        some = [Target(item.labels, item.masks, teach) for item, teach in zip(wanted, choice, strict=True)]
        halves.append(criterion(importance_ratio=0.0)(output, some))
    whole = criterion(importance_ratio=0.0)(output, wanted)
    assert float(halves[0]["class"]) == float(halves[1]["class"]) == float(whole["class"])
    for name in ("mask", "dice"):
        assert float(halves[0][name]) > 0
        assert float(halves[0][name] + halves[1][name]) == pytest.approx(float(whole[name]), rel=1e-5)


def test_without_an_instance_that_teaches_its_mask_the_mask_terms_are_zero(shared_points):
    output, wanted = predictions(2, 1), targets(3)
    silent = [Target(item.labels, item.masks, torch.zeros_like(item.labels, dtype=torch.bool)) for item in wanted]
    terms = criterion()(output, silent)
    assert float(terms["mask"]) == float(terms["dice"]) == 0.0
    assert float(terms["class"]) == float(criterion()(output, wanted)["class"])


def test_gradients_are_those_of_the_reference(shared_points):
    ours, wanted = criterion(), targets(2, 3)
    gradients = []
    for score in (ours, lambda output, wanted: reference(output, wanted, ours.config)):
        output = predictions(2, 2)
        leaves = [item.requires_grad_() for item in output.class_logits + output.mask_logits]
        sum(score(output, wanted).values()).backward()
        gradients.append(torch.cat([leaf.grad.flatten() for leaf in leaves]))
    assert torch.allclose(gradients[0], gradients[1], atol=1e-6)


def bilinear(plane: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Read [h, w] at (x, y) in 0..1, zero outside."""
    padded = np.pad(plane, 1)
    x, y = points[:, 0] * plane.shape[1] + 0.5, points[:, 1] * plane.shape[0] + 0.5
    left, top = np.floor(x).astype(int), np.floor(y).astype(int)
    a, b = x - left, y - top
    upper = padded[top, left] * (1 - a) + padded[top, left + 1] * a
    lower = padded[top + 1, left] * (1 - a) + padded[top + 1, left + 1] * a
    return upper * (1 - b) + lower * b


def mask_terms(logits: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    probability = 1 / (1 + np.exp(-logits))
    entropy = -(truth * np.log(probability) + (1 - truth) * np.log(1 - probability)).mean()
    dice = 1 - (2 * (probability * truth).sum() + 1) / (probability.sum() + truth.sum() + 1)
    return entropy, dice


def test_an_independent_derivation_agrees(shared_points):
    """One image, one depth, in float64, with the best assignment found by trying them all."""
    ours = criterion(importance_ratio=0.0)
    output, (wanted,) = predictions(1, 1), targets(3)
    config, points = ours.config, shared_points[:POINTS].double().numpy()
    classes = output.class_logits[0][0].double().numpy()
    probability = np.exp(classes) / np.exp(classes).sum(1, keepdims=True)
    found = [bilinear(plane, points) for plane in output.mask_logits[0][0].double().numpy()]
    truth = [bilinear(plane, points) for plane in wanted.masks.double().numpy()]
    labels = wanted.labels.tolist()

    def cost(query: int, instance: int) -> float:
        entropy, dice = mask_terms(found[query], truth[instance])
        return (
            -config.class_weight * probability[query, labels[instance]]
            + config.mask_weight * entropy
            + config.dice_weight * dice
        )

    best = min(
        itertools.permutations(range(QUERIES), len(labels)),
        key=lambda queries: sum(cost(query, instance) for instance, query in enumerate(queries)),
    )
    pairs = [mask_terms(found[query], truth[instance]) for instance, query in enumerate(best)]
    wanted_class = [CLASSES] * QUERIES
    for instance, query in enumerate(best):
        wanted_class[query] = labels[instance]
    weights = [config.no_object_weight if label == CLASSES else 1.0 for label in wanted_class]
    surprise = [-np.log(probability[query, label]) for query, label in enumerate(wanted_class)]
    terms = ours(output, [wanted])
    assert float(terms["class"]) == pytest.approx(config.class_weight * np.average(surprise, weights=weights), rel=1e-5)
    assert float(terms["mask"]) == pytest.approx(config.mask_weight * np.mean([item[0] for item in pairs]), rel=1e-5)
    assert float(terms["dice"]) == pytest.approx(config.dice_weight * np.mean([item[1] for item in pairs]), rel=1e-5)


@pytest.mark.parametrize("no_object_weight", [0.1, 0.0])
def test_without_an_instance_only_the_classes_push(no_object_weight):
    output = predictions(2, 2)
    leaves = [item.requires_grad_() for item in output.class_logits + output.mask_logits]
    terms = criterion(no_object_weight=no_object_weight)(output, targets(0, 0))
    assert float(terms["mask"].detach()) == 0.0
    assert float(terms["dice"].detach()) == 0.0
    sum(terms.values()).backward()
    assert all(torch.isfinite(leaf.grad).all() for leaf in leaves)
    assert all(leaf.grad.abs().sum() == 0 for leaf in output.mask_logits)
    pushed = [bool(leaf.grad.abs().sum() > 0) for leaf in output.class_logits]
    assert pushed == [no_object_weight > 0] * 2


def test_the_order_of_queries_does_not_matter(shared_points):
    output, wanted = predictions(3, 2), targets(2, 3)
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    turned = QueryOutput(
        [item[:, order] for item in output.class_logits],
        [item[:, order] for item in output.mask_logits],
        output.encoder_levels,
    )
    first, second = criterion()(output, wanted), criterion()(turned, wanted)
    assert {name: float(value) for name, value in first.items()} == pytest.approx(
        {name: float(value) for name, value in second.items()}, rel=1e-5
    )


def test_the_order_of_instances_does_not_matter(shared_points):
    output, (wanted,) = predictions(2, 1), targets(4)
    turned = Target(wanted.labels.flip(0), wanted.masks.flip(0))
    first, second = criterion()(output, [wanted]), criterion()(output, [turned])
    for name in first:
        assert float(first[name]) == pytest.approx(float(second[name]), rel=1e-5)


def test_the_weights_scale_their_terms(shared_points):
    """Doubling all three leaves the assignment as it is."""
    output, wanted = predictions(2, 2), targets(2, 3)
    single = criterion(class_weight=2.0, mask_weight=5.0, dice_weight=5.0)(output, wanted)
    double = criterion(class_weight=4.0, mask_weight=10.0, dice_weight=10.0)(output, wanted)
    for name in single:
        assert float(double[name]) == pytest.approx(2 * float(single[name]), rel=1e-5)


def test_a_weight_of_zero_switches_a_term_off(shared_points):
    terms = criterion(dice_weight=0.0)(predictions(2, 2), targets(2, 3))
    assert float(terms["dice"]) == 0.0
    assert float(terms["mask"]) > 0.0


def test_a_perfect_prediction_costs_next_to_nothing():
    masks = torch.zeros(2, 32, 64)
    masks[0, :, :32] = 1.0
    masks[1, 16:] = 1.0
    wanted = Target(torch.tensor([2, 0]), masks)
    classes = torch.full((1, QUERIES, CLASSES + 1), -20.0)
    for query, label in enumerate([2, 0] + [CLASSES] * 4):
        classes[0, query, label] = 20.0
    logits = torch.full((1, QUERIES, 32, 64), -10.0)
    logits[0, :2] = 20.0 * masks - 10.0
    torch.manual_seed(0)
    terms = criterion(importance_ratio=0.0)(QueryOutput([classes], [logits], torch.zeros(1, 1, 1, 1)), [wanted])
    assert float(sum(terms.values())) < 0.1


def test_an_exploding_network_gives_a_loss_and_not_an_exception():
    output = predictions(2, 1)
    output.mask_logits[0][:] = float("nan")
    assert torch.isnan(sum(criterion()(output, targets(3)).values()))
