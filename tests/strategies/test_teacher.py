"""When the online teacher is written, what it takes over, and what is said when it stays silent."""

from __future__ import annotations

import copy

import pytest
import torch
from engine_fixtures import pixels, tiny_model
from torch import nn

from sskd_core.config.teaching import TeachingConfig
from sskd_core.errors import ConfigError, UserError
from sskd_core.strategies.teacher import OnlineTeacher, check_same_network


class Network(nn.Module):
    """A parameter, batch normalisation, and an integer buffer; as much of a model as the teacher touches."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        source = torch.Generator().manual_seed(seed)
        self.weight = nn.Parameter(torch.randn(5, generator=source))
        self.norm = nn.BatchNorm1d(5)
        self.norm.running_mean += torch.randn(5, generator=source)
        self.norm.num_batches_tracked += seed

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.norm(inputs) * self.weight


def values(network: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in network.state_dict().items()}


def same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(left[name], right[name]) for name in left)


def teacher(**config) -> OnlineTeacher:
    teaching = TeachingConfig(**{"burn_in": 3, "decay": 0.9, **config})
    return OnlineTeacher(Network(1), teaching, teaching.filter.patience_in(100))  # type: ignore[arg-type]


def test_the_teacher_stands_still_then_is_the_student_then_follows_it():
    found, student = teacher(), Network(2)
    before = values(found.network)
    for step in range(3):
        found.write(student, step)
        assert same(values(found.network), before), step
    found.write(student, 3)
    at_switch = values(student)
    assert same(values(found.network), at_switch)
    with torch.no_grad():
        student.weight += 1.0
        student.norm.running_mean -= 2.0
        student.norm.num_batches_tracked += 5
    found.write(student, 4)
    after = values(found.network)
    for name, now in student.state_dict().items():
        expected = 0.9 * at_switch[name] + 0.1 * now if now.is_floating_point() else now
        assert torch.allclose(after[name], expected, atol=1e-6), name


def test_a_kept_teacher_is_averaged_from_the_first_iteration():
    found, student = teacher(burn_in=0, copy_at_switch=False), Network(2)
    before = found.network.weight.clone()
    found.write(student, 0)
    assert torch.allclose(found.network.weight, 0.9 * before + 0.1 * student.weight)


def test_a_fixed_teacher_is_never_written():
    found, before = teacher(recipe="fixed", burn_in=0), values(Network(1))
    for step in range(5):
        found.write(Network(2), step)
    assert same(values(found.network), before)


def test_buffers_are_copied_where_they_are_not_averaged():
    found, student = teacher(average_buffers=False), Network(2)
    found.write(student, 3)
    with torch.no_grad():
        student.norm.running_mean += 4.0
    found.write(student, 4)
    assert torch.equal(found.network.norm.running_mean, student.norm.running_mean)


def test_a_hundred_averages_leave_no_graph():
    found, student = teacher(burn_in=0), Network(2)
    for step in range(100):
        found.write(student, step)
    for parameter in found.network.parameters():
        assert not parameter.requires_grad
        assert parameter.is_leaf
        assert parameter.grad_fn is None


def test_its_own_forward_moves_nothing_and_it_stays_in_eval_mode():
    found = OnlineTeacher(tiny_model().train(), TeachingConfig(burn_in=3), 10)
    before = values(found.network)
    assert any("running_mean" in name for name in before)
    first, again = found.predict(pixels()), found.predict(pixels())
    assert not any(module.training for module in found.network.modules())
    assert same(values(found.network), before)
    assert torch.equal(first.mask_logits[-1], again.mask_logits[-1])
    assert not first.mask_logits[-1].requires_grad


def test_an_automatic_burn_in_ends_when_the_student_is_as_good():
    found = teacher(burn_in="auto")
    assert found.waits
    assert found.own_score is None
    found.compare(10, score=4.9, own_score=5.0)
    assert found.waits
    assert found.own_score == 5.0
    assert not found.switched(10**6)
    found.compare(20, score=5.0, own_score=5.0)
    assert [found.switched(step) for step in (19, 20, 21)] == [False, True, True]
    assert not found.waits


def test_what_decides_is_in_the_state():
    found, other = teacher(burn_in="auto"), teacher(burn_in="auto")
    found.compare(20, 6.0, 5.0)
    found.listen(0, torch.tensor([0.5, 0.1]), 20)
    other.load_state_dict(copy.deepcopy(found.state_dict()))
    assert (int(other.switch_at), other.own_score) == (20, 5.0)
    assert same(values(other), values(found))


def test_a_silent_teacher_stops_the_run_and_says_how_sure_it_was():
    found = teacher(filter={"patience": 3})
    found.listen(0, torch.tensor([0.05, 0.15]), 0)
    found.listen(2, torch.tensor([0.9, 0.9]), 1)  # starts the count anew
    found.listen(0, torch.tensor([0.05, 0.15]), 2)
    found.listen(0, torch.tensor([0.35, 0.99]), 3)
    with pytest.raises(UserError) as caught:
        found.listen(0, torch.tensor([0.45, 1.0]), 4)
    message = str(caught.value)
    assert "\n" not in message
    assert "no pseudo-label for 3 iterations, up to 4, on 6 images" in message
    assert "0.0-0.2: 33 %, 0.2-0.4: 17 %, 0.4-0.6: 17 %, 0.6-0.8: 0 %, 0.8-1.0: 33 %" in message
    assert "lower teaching.filter.class_threshold (0.7)" in message


def test_different_networks_are_refused():
    check_same_network(tiny_model(), tiny_model(seed=1))
    with pytest.raises(ConfigError, match=r"different networks .*recipe: fixed"):
        check_same_network(tiny_model("mask2former"), tiny_model())
