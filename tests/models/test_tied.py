"""Parameters under several names."""

from __future__ import annotations

import copy

import torch
from safetensors.torch import load, save
from torch import nn

from sskd_core.models.tied import name_once, tied_names


class Twice(nn.Module):
    """A layer under two names, inside another module."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(2, 2)
        self.other = nn.Linear(2, 1)
        self.again = self.first
        name_once(self)


def test_later_names_are_told_with_the_first():
    assert tied_names(Twice()) == {"again.weight": "first.weight", "again.bias": "first.bias"}


def test_a_state_names_each_tensor_once_and_can_be_read_back():
    outer = nn.Sequential(Twice())
    state = load(save(outer.state_dict()))
    assert sorted(state) == ["0.first.bias", "0.first.weight", "0.other.bias", "0.other.weight"]
    fresh = nn.Sequential(Twice())
    fresh.load_state_dict(state)
    assert torch.equal(fresh[0].again.weight, outer[0].first.weight)
    assert fresh[0].again.weight is fresh[0].first.weight


def test_a_copy_keeps_the_ties():
    twin = copy.deepcopy(Twice())
    assert tied_names(twin).keys() == {"again.weight", "again.bias"}
    assert sorted(twin.state_dict()) == ["first.bias", "first.weight", "other.bias", "other.weight"]
    twin.load_state_dict(twin.state_dict())
