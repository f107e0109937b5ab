"""The loop: a run that was stopped ends as one that was not, and delivers what it was told to."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
import torch
from engine_fixtures import CLASSES, Rectangles, batch_loader, final_logits, pixels, tiny_model, train_config

from sskd_core.config.train import TrainConfig
from sskd_core.errors import Interrupted, UserError
from sskd_core.labels.online import OnlineFilter
from sskd_core.losses.set_criterion import SetCriterion
from sskd_core.progress import Progress
from sskd_core.strategies.base import StepTerms, Strategy
from sskd_core.strategies.contrast import ContrastTerm
from sskd_core.strategies.semi_supervised import SemiSupervised
from sskd_core.strategies.supervised import Supervised
from sskd_core.strategies.teacher import OnlineTeacher
from sskd_core.strategies.teacher_student import TeachersLabels, TeacherStudent
from sskd_core.tracking.run import NullRun
from sskd_core.training.checkpoint import CheckpointStore, pack
from sskd_core.training.loop import Outcome, Trainer


class MachineGone(Exception):
    """What a test raises in the middle of a step."""


@dataclass
class Hooked(Strategy):
    """A strategy that calls `before` with the number of each step."""

    inner: Strategy
    before: Callable[[int], None] = lambda step: None
    steps: list[int] = field(default_factory=list)
    closed: int = 0

    @property
    def extra(self):
        return self.inner.extra

    @property
    def memory(self):
        return self.inner.memory

    def parts(self, model, step):
        self.before(step)
        self.steps.append(step)
        return self.inner.parts(model, step)

    def validated(self, step, score, validate):
        self.inner.validated(step, score, validate)

    def close(self):
        self.closed += 1
        self.inner.close()


class Recorder(NullRun):
    """Remembers what is logged."""

    def __init__(self) -> None:
        self.points: list[tuple[int, str]] = []

    def log_metrics(self, metrics, step=None):
        self.points += [(step, name) for name in metrics]


@torch.no_grad()
def weights_score(model) -> float:
    """Score a network by its weights, so that equal scores mean equal weights."""
    return float(sum(parameter.double().abs().sum() for parameter in model.parameters())) % 100.0


def supervised(config: TrainConfig) -> Supervised:
    return Supervised(batch_loader(config), SetCriterion(config.criterion))


def semi_supervised(config: TrainConfig) -> SemiSupervised:
    unlabeled = batch_loader(config, Rectangles(4), stream="unlabeled")
    return SemiSupervised(batch_loader(config), unlabeled, SetCriterion(config.criterion), 0.5)


def contrastive(config: TrainConfig) -> Supervised:
    term = ContrastTerm(tiny_model(), config.contrast, config.lambda_pxl, config.iterations, seed=0)
    return Supervised(batch_loader(config), SetCriterion(config.criterion), term)


def teacher_student(config: TrainConfig) -> TeacherStudent:
    assert config.teaching is not None
    teacher = OnlineTeacher(tiny_model(seed=1), config.teaching, 100)
    labeller = TeachersLabels(teacher, OnlineFilter(config.teaching.filter, CLASSES))
    unlabeled = batch_loader(config, Rectangles(4), stream="unlabeled")
    criterion = SetCriterion(config.criterion)
    return TeacherStudent(batch_loader(config), unlabeled, criterion, config.teaching, labeller, teacher, 0)


def teaching_run(**teaching) -> TrainConfig:
    """Return a run of six steps whose teacher labels from the first one on."""
    loose = {"class_threshold": 0.0, "soft_area": 0.0}
    settings = {"burn_in": 3, "decay": 0.5, "filter": loose, **teaching}
    return train_config(
        strategy="teacher_student", unlabeled_batch=2, checkpoint_seconds=0.0, val_every=1, teaching=settings
    )


@pytest.fixture
def make_trainer(store, tmp_path):
    """Return a function that makes a trainer whose checkpoints are at `place`."""

    def make(config=None, place="a", family="dinov2_dpt", strategy=supervised, before=None, **values):
        config = config or train_config()
        hooked = Hooked(strategy(config), before or (lambda step: None))
        trainer = Trainer(
            model=tiny_model(family),
            strategy=hooked,
            config=config,
            seed=values.pop("seed", 0),
            validate=values.pop("validate", weights_score),
            checkpoints=CheckpointStore(store, f"{store.root}/{place}"),
            progress=Progress("distill", tmp_path / "progress"),
            run=values.pop("run", NullRun()),
            **values,
        )
        trainer.hooked = hooked
        return trainer

    return make


def everything(trainer: Trainer, outcome: Outcome) -> bytes:
    """Return weights, average, optimiser and curves as bytes."""
    return pack(trainer._modules(), trainer._optimizer, outcome.state)


def raise_at(step: int) -> Callable[[int], None]:
    def before(now: int) -> None:
        if now == step:
            raise MachineGone

    return before


def signal_at(step: int, number: int = signal.SIGTERM) -> Callable[[int], None]:
    def before(now: int) -> None:
        if now == step:
            os.kill(os.getpid(), number)

    return before


SETTINGS = {
    "student with average": {"config": train_config(ema_decay=0.8, checkpoint_seconds=0.0)},
    "student, cosine, warm-up": {
        "config": train_config(
            checkpoint_seconds=0.0, optimizer={"lr": 1e-3, "schedule": "cosine", "warmup_iterations": 3}
        )
    },
    "teacher with drop path": {"config": train_config(checkpoint_seconds=0.0), "family": "mask2former"},
    "semi-supervised": {
        "config": train_config(
            checkpoint_seconds=0.0, strategy="semi_supervised", unlabeled_batch=2, ema_decay=0.8, select="last"
        ),
        "strategy": semi_supervised,
    },
    "teacher and student": {"config": teaching_run(), "strategy": teacher_student},
    "with a projector beside the network": {
        "config": train_config(checkpoint_seconds=0.0, lambda_pxl=0.1, ema_decay=0.8),
        "strategy": contrastive,
    },
}


@pytest.mark.parametrize("setting", SETTINGS.values(), ids=SETTINGS.keys())
def test_a_run_that_died_ends_like_one_that_did_not(setting, make_trainer):
    whole = make_trainer(place="whole", **setting)
    expected = everything(whole, whole.fit())
    with pytest.raises(MachineGone):
        make_trainer(before=raise_at(4), **setting).fit()
    resumed = make_trainer(**setting)
    assert everything(resumed, resumed.fit()) == expected
    assert resumed.hooked.steps == [4, 5]


@pytest.mark.parametrize("died_at", [2, 3, 4], ids=["before the switch", "at it", "after it"])
@pytest.mark.parametrize("burn_in", [3, "auto"])
def test_going_on_across_the_switch_neither_repeats_nor_skips_the_copy(burn_in, died_at, make_trainer, monkeypatch):
    """A copy that came once too often would throw away the averages after it; one too few, the switch itself."""
    scores = {"student": 0.0}

    def validate(model):
        # The student overtakes its teacher in the third validation: the switch comes at iteration 3 either way.
        return 1.0 if model is teachers[-1].network else float(scores["student"])

    teachers = []

    def strategy(config):
        made = teacher_student(config)
        teachers.append(made.memory)
        write = made.memory.write

        def writing(student, step):
            scores["student"] = 0.0 if step < 2 else 2.0
            before = made.memory.network.class_head.weight.clone()
            write(student, step)
            now = made.memory.network.class_head.weight
            if not torch.equal(before, now):
                written.append((step, bool(torch.equal(now, student.class_head.weight))))

        monkeypatch.setattr(made.memory, "write", writing)
        return made

    setting = {"config": teaching_run(burn_in=burn_in), "strategy": strategy, "validate": validate}
    written: list[tuple[int, bool]] = []
    whole = make_trainer(place="whole", **setting)
    expected = everything(whole, whole.fit())
    assert written == [(3, True), (4, False), (5, False)]
    written.clear()
    with pytest.raises(MachineGone):
        make_trainer(before=raise_at(died_at), **setting).fit()
    resumed = make_trainer(**setting)
    assert everything(resumed, resumed.fit()) == expected
    assert written == [(3, True), (4, False), (5, False)]


def test_the_best_weights_score_what_was_recorded(make_trainer):
    """They are those that were validated, not those of a later iteration."""
    scores = []

    def validate(model):
        scores.append(weights_score(model))
        return scores[-1]

    outcome = make_trainer(teaching_run(), strategy=teacher_student, validate=validate).fit()
    assert outcome.val_score == max(scores) == weights_score(outcome.model)
    assert outcome.state.best_step == 1 + scores.index(max(scores))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("at", [0, 3, 5], ids=["first", "middle", "last"])
def test_a_signal_ends_the_step_and_loses_nothing(at, number, make_trainer, tmp_path):
    """No checkpoint is due by time; the signal makes one."""
    setting = {"config": train_config(ema_decay=0.8)}
    whole = make_trainer(place="whole", **setting)
    expected = everything(whole, whole.fit())
    stopped = make_trainer(before=signal_at(at, number), **setting)
    with pytest.raises(Interrupted, match="run the same command again"):
        stopped.fit()
    assert stopped.hooked.steps == list(range(at + 1))
    assert stopped.hooked.closed == 1
    resumed = make_trainer(**setting)
    assert everything(resumed, resumed.fit()) == expected
    assert resumed.hooked.steps == list(range(at + 1, 6))
    notes = [json.loads(line) for line in (tmp_path / "progress" / "distill.jsonl").read_text().splitlines()]
    assert [item["detail"] for item in notes if item["kind"] == "note"] == [f"resumed at iteration {at + 1} of 6"]


def test_between_two_checkpoints_only_the_steps_since_the_first_are_lost(make_trainer):
    whole = make_trainer(place="whole")
    expected = everything(whole, whole.fit())
    with pytest.raises(MachineGone):
        make_trainer(before=raise_at(4)).fit()
    resumed = make_trainer()
    assert everything(resumed, resumed.fit()) == expected
    assert resumed.hooked.steps == list(range(6))


def test_the_seed_decides_and_the_global_generator_does_not(make_trainer):
    outcomes = []
    for place, seed in (("a", 0), ("b", 0), ("c", 1)):
        torch.manual_seed(len(outcomes))
        trainer = make_trainer(place=place, seed=seed)
        outcomes.append(everything(trainer, trainer.fit()))
    assert outcomes[0] == outcomes[1]
    assert outcomes[0] != outcomes[2]  # the points of the criterion; the batches are the loader's


def scripted(*scores: float) -> Callable[[torch.nn.Module], float]:
    remaining = list(scores)
    return lambda model: remaining.pop(0)


@pytest.mark.parametrize("ema_decay", [None, 0.5])
@pytest.mark.parametrize(("select", "wanted", "score"), [("best", 4, 30.0), ("last", 6, 20.0)])
def test_the_selected_weights_are_delivered(select, wanted, score, ema_decay, make_trainer):
    config = train_config(val_every=2, select=select, ema_decay=ema_decay)
    kept = {}

    def validate(model):
        assert not model.training
        step = 2 * (len(kept) + 1)
        kept[step] = final_logits(model, pixels())[1]
        return {2: 10.0, 4: 30.0, 6: 20.0}[step]

    trainer = make_trainer(config, validate=validate)
    outcome = trainer.fit()
    assert outcome.val_score == score
    assert outcome.state.best_step == 4
    assert not outcome.model.training
    assert torch.equal(final_logits(outcome.model, pixels())[1], kept[wanted])
    assert not torch.equal(kept[4], kept[6])
    assert outcome.state.curves["val/mask_ap"] == [(2, 10.0), (4, 30.0), (6, 20.0)]


@pytest.mark.parametrize("select", ["best", "last"])
def test_no_iteration_delivers_the_initial_weights(select, make_trainer):
    outcome = make_trainer(train_config(iterations=0, select=select), validate=scripted(7.0)).fit()
    assert (outcome.val_score, outcome.state.best_step) == (7.0, 0)
    assert torch.equal(final_logits(outcome.model, pixels())[1], final_logits(tiny_model(), pixels())[1])


@pytest.mark.parametrize(("start_counts", "best"), [(True, 0), (False, 4)])
def test_the_start_stands_for_selection_where_training_goes_on(start_counts, best, make_trainer):
    scores = [9.0, 7.0, 8.0, 6.0] if start_counts else [7.0, 8.0, 6.0]
    config = train_config(val_every=2, select="best", checkpoint_seconds=0.0)
    raised = make_trainer(config, validate=scripted(*scores), start_counts=start_counts, before=raise_at(3))
    with pytest.raises(MachineGone):
        raised.fit()
    # Going on, the start is not measured again.
    outcome = make_trainer(config, validate=scripted(*scores[-2:]), start_counts=start_counts).fit()
    assert (outcome.state.best_step, outcome.val_score) == (best, max(scores))
    unchanged = torch.equal(final_logits(outcome.model, pixels())[1], final_logits(tiny_model(), pixels())[1])
    assert unchanged == (best == 0)


def test_of_equal_scores_the_first_is_the_best(make_trainer):
    outcome = make_trainer(train_config(val_every=2), validate=scripted(0.0, 0.0, 0.0)).fit()
    assert (outcome.state.best_step, outcome.val_score) == (2, 0.0)


def test_the_average_is_delivered_and_follows_its_formula(make_trainer):
    config = train_config(iterations=3, ema_decay=0.75, select="last")
    snapshots = []
    trainer = make_trainer(config)
    parts = trainer._strategy.parts
    trainer._strategy.parts = lambda model, number: (
        snapshots.append(model.class_head.weight.clone()) or parts(model, number)
    )
    outcome = trainer.fit()
    weights = [*snapshots[1:], trainer._model.class_head.weight]
    expected = weights[0]
    for value in weights[1:]:
        expected = 0.75 * expected + 0.25 * value
    assert torch.allclose(outcome.model.class_head.weight, expected, atol=1e-7)
    assert outcome.model is not trainer._model


def test_a_loss_that_is_not_finite_names_its_terms(make_trainer):
    def explode(model, step):
        value = next(model.parameters()).sum()
        return StepTerms({"sup_mask": value * float("nan"), "sup_class": value * 0 + 1.5})

    trainer = make_trainer()
    trainer.hooked.parts = lambda model, step: [lambda: explode(model, step)]
    before = trainer._model.class_head.weight.clone()
    with pytest.raises(UserError, match=r"not finite at iteration 0 \(sup_mask=nan, sup_class=1.5\); lower") as caught:
        trainer.fit()
    assert "\n" not in str(caught.value)
    assert trainer.hooked.closed == 1
    assert torch.equal(trainer._model.class_head.weight, before)


def test_gradients_are_clipped_to_the_configured_norm(make_trainer):
    norms = []
    trainer = make_trainer(train_config(iterations=2, optimizer={"clip_grad_norm": 0.01}))
    trainer._optimizer.register_step_pre_hook(
        lambda *_: norms.append(
            float(torch.stack([p.grad.norm() for p in trainer._model.parameters() if p.grad is not None]).norm())
        )
    )
    outcome = trainer.fit()
    assert norms == pytest.approx([0.01, 0.01], rel=1e-3)
    assert all(value > 0.01 for _, value in outcome.state.curves["grad_norm"])  # as it was before clipping


def test_what_is_trained_beside_the_network_is_clipped_with_it_and_not_delivered(make_trainer):
    config = train_config(iterations=2, lambda_pxl=100.0, optimizer={"lr": 1e-2, "clip_grad_norm": 0.01})
    trainer = make_trainer(config, strategy=contrastive)
    extra, norms = trainer.hooked.extra, []
    before = [parameter.clone() for parameter in extra.parameters()]
    parameters = [*trainer._model.parameters(), *extra.parameters()]
    trainer._optimizer.register_step_pre_hook(
        lambda *_: norms.append(float(torch.stack([p.grad.norm() for p in parameters if p.grad is not None]).norm()))
    )
    outcome = trainer.fit()
    assert norms == pytest.approx([0.01, 0.01], rel=1e-3)
    for old, new in zip(before, extra.parameters(), strict=True):
        assert not torch.equal(old, new)
    assert outcome.model.state_dict().keys() == tiny_model().state_dict().keys()
    assert {"loss/pxl", "contrast_margin"} <= outcome.state.curves.keys()


def test_a_frozen_encoder_stays_as_it_was(make_trainer):
    trainer = make_trainer(train_config(optimizer={"lr": 1e-2, "backbone_lr_multiplier": 0.0}, select="last"))
    outcome, fresh = trainer.fit(), tiny_model()
    for ours, theirs in zip(outcome.model.encoder.parameters(), fresh.encoder.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    assert not torch.equal(outcome.model.class_head.weight, fresh.class_head.weight)


def test_curves_and_the_run_get_the_same_points(make_trainer):
    recorder = Recorder()
    outcome = make_trainer(train_config(log_every=4, val_every=4), run=recorder).fit()
    logged = ["loss/sup_class", "loss/sup_mask", "loss/sup_dice", "loss/total", "grad_norm", "learning_rate"]
    assert outcome.state.curves.keys() == {*logged, "val/mask_ap"}
    for name, points in outcome.state.curves.items():
        assert [step for step, _ in points] == [4, 6]  # at the interval, and at the end
        assert [(step, name) for step, _ in points] == [item for item in recorder.points if item[1] == name]
    curves = outcome.state.curves
    parts = zip(*(curves[f"loss/sup_{name}"] for name in ("class", "mask", "dice")), strict=True)
    assert [sum(value for _, value in point) for point in parts] == pytest.approx(
        [value for _, value in curves["loss/total"]]
    )


def test_progress_tells_how_far_the_run_is(make_trainer, tmp_path):
    make_trainer(train_config(), validate=scripted(1.0, 2.0)).fit()
    records = [json.loads(line) for line in (tmp_path / "progress" / "distill.jsonl").read_text().splitlines()]
    last = records[-1]
    assert (last["kind"], last["done"], last["total"], last["unit"]) == ("update", 6, 6, "iterations")
    assert last["figures"].keys() == {"loss", "val_mask_ap"}


def test_training_learns(make_trainer):
    config = train_config(iterations=30, labeled_batch=4, val_every=30, optimizer={"lr": 3e-3, "clip_grad_norm": 1.0})
    curve = make_trainer(config).fit().state.curves["loss/total"]
    losses = [value for _, value in curve]
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])
