"""One step of teacher and student: two passes, each scored by itself, on views of the same crop."""

from __future__ import annotations

import pytest
import torch
from engine_fixtures import CLASSES, INPUT, Rectangles, batch_loader, labeled_image, tiny_model, train_config

from sskd_core.config.teaching import TeachingConfig
from sskd_core.data.loader import BatchLoader, LabeledExamples
from sskd_core.labels.online import OnlineFilter
from sskd_core.losses.set_criterion import SetCriterion
from sskd_core.models.protocol import QueryOutput, SegmentationModel
from sskd_core.strategies.supervised import Supervised
from sskd_core.strategies.teacher import OnlineTeacher
from sskd_core.strategies.teacher_student import StoredLabels, TeachersLabels, TeacherStudent

LOOSE = {"class_threshold": 0.0, "soft_area": 0.0}
CONFIG = train_config(labeled_batch=2)


class Seer(SegmentationModel):
    """A teacher that answers with the class of every pixel's brightest channel; untrained networks say nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(()))
        self.seen: list[torch.Tensor] = []

    def forward(self, pixels: torch.Tensor) -> QueryOutput:
        self.seen.append(pixels)
        raw = pixels * torch.tensor(INPUT.std).view(3, 1, 1) + torch.tensor(INPUT.mean).view(3, 1, 1)
        coarse = torch.nn.functional.avg_pool2d(raw, 4)
        masks = (coarse - 0.5) * 100
        classes = torch.full((len(pixels), 3, 4), -20.0)
        for number in range(3):
            there = masks[:, number].flatten(1).amax(1) > 0
            classes[:, number, number] = torch.where(there, 20.0, -20.0)
            classes[:, number, 3] = torch.where(there, -20.0, 20.0)
        return QueryOutput([classes * self.scale], [masks], [])


def unlabeled_loader(batch: int = 3) -> BatchLoader:
    data = Rectangles()
    nothing = {name: labeled_image(name, type(data[0])(data[0].image, [], data[0].masks[:0])) for name in "01234"}
    return BatchLoader(
        LabeledExamples(data.records(), nothing, data.read), batch, INPUT, CONFIG.augment, 0, "unlabeled"
    )


def strategy(teacher: SegmentationModel | None = None, **config) -> TeacherStudent:
    teaching = TeachingConfig(**{"burn_in": 4, "filter": LOOSE, **config})
    online = OnlineTeacher(teacher or Seer(), teaching, 100)
    labeller = TeachersLabels(online, OnlineFilter(teaching.filter, CLASSES), torch.tensor([0.5, 0.5, 0.0]))
    labeled = batch_loader(CONFIG)
    return TeacherStudent(labeled, unlabeled_loader(), SetCriterion(CONFIG.criterion), teaching, labeller, online, 0)


def gradients(found, model: SegmentationModel, step: int = 1) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    model.zero_grad(set_to_none=True)
    for part in found.parts(model, step):
        torch.stack(list(part().losses.values())).sum().backward()
    return {name: item.grad.clone() for name, item in model.named_parameters() if item.grad is not None}


def test_the_labelled_pass_is_over_before_an_unlabelled_image_is_seen():
    teacher, model = Seer(), tiny_model().eval()
    labelled, unlabelled = strategy(teacher).parts(model, 1)
    first = labelled()
    assert teacher.seen == []
    assert set(first.losses) == {"sup_class", "sup_mask", "sup_dice"}
    second = unlabelled()
    assert set(second.losses) == {"semi_class", "semi_mask", "semi_dice"}
    assert [item.shape[0] for item in teacher.seen] == [3]


def test_the_parts_add_up_to_the_gradient_of_the_sum():
    model = tiny_model().eval()
    found = gradients(strategy(), model)
    torch.manual_seed(0)
    model.zero_grad(set_to_none=True)
    terms = [part().losses for part in strategy().parts(model, 1)]
    torch.stack([value for part in terms for value in part.values()]).sum().backward()
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            assert torch.allclose(found[name], parameter.grad, rtol=1e-4, atol=1e-5), name


def test_without_weight_the_step_is_the_supervised_one():
    model = tiny_model().eval()
    found = gradients(strategy(lambda_u=0.0), model)
    expected = gradients(Supervised(batch_loader(CONFIG), SetCriterion(CONFIG.criterion)), model)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_the_weight_follows_the_phase_and_the_ramp():
    weights = [strategy(burn_in_lambda_u=0.5, lambda_u=2.0).weight(step) for step in (0, 3, 4, 9)]
    assert weights == [0.5, 0.5, 2.0, 2.0]
    assert [strategy(ramp_iterations=4, lambda_u=2.0).weight(step) for step in (0, 1, 3, 8)] == [0.5, 1.0, 2.0, 2.0]
    assert len(strategy(recipe="standard").parts(tiny_model(), 3)) == 1
    waiting = strategy(teacher=tiny_model(seed=1), recipe="standard")
    assert [len(waiting.parts(tiny_model(), step)) for step in (3, 4)] == [1, 2]


def test_the_weight_scales_the_unlabelled_terms_alone():
    model, terms = tiny_model().eval(), []
    for weight in (1.0, 3.0):
        torch.manual_seed(0)
        terms.append([part() for part in strategy(lambda_u=weight).parts(model, 1)])
    for name, value in terms[0][1].losses.items():
        assert float(terms[1][1].losses[name]) == pytest.approx(3 * float(value), rel=1e-6)
    assert terms[0][0].losses == terms[1][0].losses
    assert terms[0][1].figures["semi_to_sup_ratio"] == terms[1][1].figures["semi_to_sup_ratio"]


@pytest.mark.parametrize("view", ["strong", "cutout", "same"])
def test_the_teacher_sees_the_weak_view_and_the_student_another_of_the_same_crop(view, monkeypatch):
    """The teacher's masks must fit the student's image pixel for pixel, whatever the view did to the colours."""
    teacher, model = Seer(), tiny_model().eval()
    given: list[torch.Tensor] = []
    targets = []
    found = strategy(teacher, view=view, strong_view={"grayscale": 0.0, "blur_kernel": 1, "hue": 0.0})
    monkeypatch.setattr(model, "forward", lambda pixels: given.append(pixels) or tiny_model().eval()(pixels))
    label = found._labeller.label
    monkeypatch.setattr(found._labeller, "label", lambda *a: targets.append(label(*a)[0]) or (targets[-1], {}))
    found._unlabeled_part(model, 1, 1.0)
    weak = found._unlabeled.batch(1).pixels
    assert torch.equal(teacher.seen[0], weak)
    assert torch.equal(given[0], weak) == (view == "same")
    assert sum(len(item.labels) for item in targets[0]) > 0
    if view == "cutout":
        return  # erased boxes hide what the mask shows, on purpose
    raw = given[0] * torch.tensor(INPUT.std).view(3, 1, 1) + torch.tensor(INPUT.mean).view(3, 1, 1)
    for image, target in zip(raw, targets[0], strict=True):
        for label_, mask in zip(target.labels, target.masks, strict=True):
            inside = torch.nn.functional.interpolate(mask[None, None], INPUT_SIZE)[0, 0] > 0
            assert image[label_][inside].mean() > image[label_][~inside].mean()


INPUT_SIZE = (INPUT.height, INPUT.width)


def test_without_a_pseudo_label_only_the_classes_learn():
    class Blind(Seer):
        def forward(self, pixels):
            answer = super().forward(pixels)
            answer.class_logits[0][..., 3] = 50.0
            return answer

    model = tiny_model().eval()
    torch.manual_seed(0)
    terms = strategy(Blind())._unlabeled_part(model, 1, 2.0)
    assert float(terms.losses["semi_mask"].detach()) == float(terms.losses["semi_dice"].detach()) == 0.0
    assert terms.figures["pseudo_instances_per_image"] == 0.0
    assert terms.figures["images_without_pseudo_label"] == 1.0
    torch.stack(list(terms.losses.values())).sum().backward()
    assert all(torch.isfinite(item.grad).all() for item in model.parameters() if item.grad is not None)
    assert model.class_head.weight.grad.abs().sum() > 0
    mask_head = [item.grad for name, item in model.named_parameters() if "mask_embedder" in name]
    assert mask_head
    assert all(gradient is None or gradient.abs().sum() == 0 for gradient in mask_head)


def test_figures_say_what_became_of_the_queries():
    torch.manual_seed(0)
    figures = strategy()._unlabeled_part(tiny_model().eval(), 1, 2.0).figures
    kept = figures["pseudo_instances_per_image"]
    assert kept > 0
    assert float(kept + figures["rejected_no_object_per_image"]) == pytest.approx(3.0)  # the teacher's three queries
    assert figures["lambda_u"] == 2.0
    assert figures["burn_in_over"] == 0.0
    assert 0.0 <= float(figures["class_drift"]) <= 1.0


def test_stored_labels_come_with_the_batch():
    data = Rectangles()
    examples = LabeledExamples(data.records(), data.truth(), data.read)
    loader = BatchLoader(examples, 3, INPUT, CONFIG.augment, 0, "unlabeled")
    teaching = TeachingConfig(recipe="data_distillation")
    criterion = SetCriterion(CONFIG.criterion)
    found = TeacherStudent(batch_loader(CONFIG), loader, criterion, teaching, StoredLabels(), None, 0)
    assert found.memory is None
    assert found.weight(0) == 2.0
    terms = found._unlabeled_part(tiny_model().eval(), 1, 2.0)
    assert terms.figures["pseudo_instances_per_image"] == loader.batch(1).instances / 3


def test_an_automatic_switch_asks_for_the_teacher_s_score_once():
    asked: list[SegmentationModel] = []
    found = strategy(teacher=tiny_model(seed=1), burn_in="auto")

    def validate(model: SegmentationModel) -> float:
        asked.append(model)
        return 5.0

    found.validated(10, 3.0, validate)
    assert found.facts() == {"switched_at": None, "teacher_val_mask_ap": 5.0}
    found.validated(20, 5.5, validate)
    found.validated(30, 6.5, validate)
    assert len(asked) == 1
    assert asked[0] is found.memory.network
    assert found.facts() == {"switched_at": 20, "teacher_val_mask_ap": 5.0}
    student = tiny_model(seed=2)
    head = found.memory.network.class_head.weight
    before = head.clone()
    found.parts(student, 19)
    assert torch.equal(head, before)
    found.parts(student, 20)
    assert torch.equal(head, student.class_head.weight)


def test_closing_closes_both_loaders():
    found, closed = strategy(), []
    found._labeled.close = lambda: closed.append("labeled")
    found._unlabeled.close = lambda: closed.append("unlabeled")
    found.close()
    assert closed == ["labeled", "unlabeled"]
