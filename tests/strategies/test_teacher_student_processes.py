"""Teacher and student in two real processes: a step is that of one process with the whole batch."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from engine_fixtures import CLASSES, batch_loader, tiny_model, train_config
from ranks import leave, left, run_ranks
from torch import Tensor

from sskd_core.config.teaching import TeachingConfig
from sskd_core.labels.online import OnlineFilter
from sskd_core.losses.set_criterion import SetCriterion
from sskd_core.strategies.teacher import OnlineTeacher
from sskd_core.strategies.teacher_student import TeachersLabels, TeacherStudent
from sskd_core.training.processes import computation
from tests.strategies.test_teacher_student import LOOSE, Seer, unlabeled_loader


def step() -> dict[str, Tensor]:
    """Return terms, figures and gradients of a step in which the teacher labels."""
    config = train_config(labeled_batch=2)
    teaching = TeachingConfig.model_validate({"burn_in": 4, "filter": LOOSE})
    teacher = OnlineTeacher(Seer(), teaching, 100)
    labeller = TeachersLabels(teacher, OnlineFilter(teaching.filter, CLASSES))
    criterion = SetCriterion(config.criterion)
    strategy = TeacherStudent(batch_loader(config), unlabeled_loader(4), criterion, teaching, labeller, teacher, 0)
    model = tiny_model()
    compute = computation(model, None)
    model.train()
    torch.manual_seed(7)
    found = {}
    for part in strategy.parts(model, 1):
        terms, total = compute(part)
        total.backward()
        found |= {f"loss/{name}": value.detach() for name, value in terms.losses.items()}
    grads = {name: item.grad for name, item in model.named_parameters() if item.grad is not None}
    return found | {f"grad/{name}": value for name, value in grads.items()}


def leave_step(folder: Path) -> None:
    leave(folder, step())


def test_a_step_of_two_processes_is_that_of_one_with_the_whole_batch(tmp_path: Path):
    run_ranks(leave_step, tmp_path)
    alone = step()
    for together in left(tmp_path):
        assert together.keys() == alone.keys()
        assert {"loss/sup_mask", "loss/semi_mask"} <= alone.keys()
        for name, value in alone.items():
            if name.startswith("loss/"):
                assert float(together[name]) == pytest.approx(float(value), rel=1e-6), name
            else:
                assert torch.allclose(together[name], value, rtol=1e-4, atol=1e-5), name
