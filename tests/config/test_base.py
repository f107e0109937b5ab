"""Strict models: what is wrong is named with its place, and what does not matter stays out of the fingerprint."""

from __future__ import annotations

from typing import Any, Literal

import pytest
from pydantic import Field, ValidationError

from sskd_core.config.base import Runtime, StrictModel, validate
from sskd_core.errors import ConfigError


class Leaf(StrictModel):
    learning_rate: float = Field(1.0, gt=0)
    workers: Runtime[int] = Field(0, ge=0)
    kind: Literal["a", "b"] = "a"


class Other(StrictModel):
    momentum: float


class Branch(StrictModel):
    leaf: Leaf = Field(default_factory=Leaf)
    leaves: list[Leaf] = Field(default_factory=list)
    optional: Leaf | None = None
    either: Leaf | Other | None = None
    named: dict[str, Leaf] = Field(default_factory=dict)
    pair: tuple[Leaf, Leaf] | None = None
    interval: Runtime[float | None] = None


class Root(StrictModel):
    name: str
    branch: Branch = Field(default_factory=Branch)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"nmae": "x"}, "unknown key 'nmae'; did you mean 'name'? (and 1 more)"),
        ({"name": "x", "zzz": 1}, "unknown key 'zzz'; known keys: branch, name"),
        ({}, "'name' is required"),
        ({"name": 1}, "'name': input should be a valid string, got 1"),
        ({"name": "x", "branch": 3}, "'branch': input should be a valid dictionary or instance of Branch, got 3"),
        ({"name": "x", "branch": {"laef": {}}}, "unknown key 'branch.laef'; did you mean 'leaf'?"),
        (
            {"name": "x", "branch": {"leaf": {"lerning_rate": 1}}},
            "unknown key 'branch.leaf.lerning_rate'; did you mean 'learning_rate'?",
        ),
        (
            {"name": "x", "branch": {"leaves": [{}, {"worker": 1}]}},
            "unknown key 'branch.leaves.1.worker'; did you mean 'workers'?",
        ),
        (
            {"name": "x", "branch": {"optional": {"learn_rate": 1}}},
            "unknown key 'branch.optional.learn_rate'; did you mean 'learning_rate'?",
        ),
        (
            {"name": "x", "branch": {"named": {"first": {"kin": "a"}}}},
            "unknown key 'branch.named.first.kin'; did you mean 'kind'?",
        ),
        (
            {"name": "x", "branch": {"pair": [{}, {"kin": "a"}]}},
            "unknown key 'branch.pair.1.kin'; did you mean 'kind'?",
        ),
        (
            {"name": "x", "branch": {"leaf": {"learning_rate": 0}}},
            "'branch.leaf.learning_rate': input should be greater than 0, got 0",
        ),
        ({"name": "x", "branch": {"leaf": {"kind": "c"}}}, "'branch.leaf.kind': input should be 'a' or 'b', got 'c'"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_the_first_wrong_key_is_named_with_the_closest_known_one(values: dict[str, Any], message: str):
    with pytest.raises(ConfigError) as caught:
        validate(Root, values, "run.yaml")
    assert str(caught.value) == f"run.yaml: {message}"


def test_the_closest_key_of_a_union_comes_from_any_of_its_members():
    with pytest.raises(ConfigError, match="did you mean 'learning_rate'"):
        validate(Root, {"name": "x", "branch": {"either": {"learning_rat": 1}}}, "run.yaml")


def test_values_are_not_coerced_from_text():
    with pytest.raises(ConfigError, match=r"'branch\.leaf\.learning_rate'"):
        validate(Root, {"name": "x", "branch": {"leaf": {"learning_rate": "fast"}}}, "run.yaml")


def test_runtime_fields_stay_out_of_the_fingerprint_at_every_level():
    root = Root(name="x", branch=Branch(interval=3.0, optional=Leaf(workers=2)))
    assert root.fingerprint_dict() == {
        "name": "x",
        "branch": {
            "leaf": {"learning_rate": 1.0, "kind": "a"},
            "leaves": [],
            "optional": {"learning_rate": 1.0, "kind": "a"},
            "either": None,
            "named": {},
            "pair": None,
        },
    }


def test_runtime_fields_of_models_in_collections_stay_out_too():
    def branch(workers: int) -> Branch:
        leaf = Leaf(workers=workers)
        return Branch(leaves=[leaf], named={"first": leaf}, pair=(leaf, leaf))

    assert branch(0).fingerprint_dict() == branch(4).fingerprint_dict()
    assert branch(0).fingerprint_dict()["leaves"] == [{"learning_rate": 1.0, "kind": "a"}]


def test_a_model_cannot_be_changed():
    root = Root(name="x")
    with pytest.raises(ValidationError):
        root.name = "y"
    with pytest.raises(ValidationError):
        root.branch.leaf.workers = 3
