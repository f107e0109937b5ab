"""The seeded split: a partition, exact in size, the same for the same seed, with rare classes on every side."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sskd_core.data.splits import Unit, seeded_order, split_units
from sskd_core.errors import DataError

FRACTIONS = {"test": 0.15, "val": 0.15}


@st.composite
def unit_lists(draw):
    sizes = draw(st.lists(st.integers(1, 3), min_size=3, max_size=40))
    numbers = iter(range(sum(sizes)))
    classes = st.frozensets(st.integers(0, 4), max_size=3)
    return [Unit(tuple(f"{next(numbers):03d}.png" for _ in range(size)), draw(classes)) for size in sizes]


@given(unit_lists(), st.integers(0, 100), st.sampled_from([FRACTIONS, {"test": 0.3}, {"test": 0.49, "val": 0.3}]))
def test_a_split_is_a_partition_of_the_right_sizes_that_keeps_units_together(units, seed, fractions):
    split = split_units(units, fractions, seed)
    assert set(split) == {"labeled", *fractions}
    assert sorted(item for part in split.values() for item in part) == [i for unit in units for i in unit.image_ids]
    share_of = {item: name for name, part in split.items() for item in part}
    assert all(len({share_of[item] for item in unit.image_ids}) == 1 for unit in units)
    for name, fraction in fractions.items():
        got = len({unit for unit in units if share_of[unit.name] == name})
        assert got == max(1, int(len(units) * fraction + 1e-9))
    assert split["labeled"]


@given(unit_lists(), st.integers(0, 100), st.randoms())
def test_a_split_depends_on_the_seed_and_not_on_the_order_of_the_images(units, seed, random):
    shuffled = random.sample(units, len(units))
    assert split_units(units, FRACTIONS, seed) == split_units(shuffled, FRACTIONS, seed)


def test_another_seed_gives_another_split():
    units = [Unit((f"{number}.png",), frozenset()) for number in range(40)]
    splits = [split_units(units, FRACTIONS, seed) for seed in range(5)]
    assert len({tuple(split["test"]) for split in splits}) == 5


@pytest.mark.parametrize("seed", range(10))
def test_a_class_of_three_images_is_on_every_side(seed):
    common = [Unit((f"common{number}.png",), frozenset({0})) for number in range(37)]
    rare = [Unit((f"rare{number}.png",), frozenset({1})) for number in range(3)]
    split = split_units(common + rare, FRACTIONS, seed)
    assert {name: sum(item.startswith("rare") for item in part) for name, part in split.items()} == {
        "labeled": 1,
        "test": 1,
        "val": 1,
    }


def test_a_class_of_one_image_stays_where_it_is_learnt():
    units = [Unit((f"{number}.png",), frozenset({0})) for number in range(20)] + [Unit(("rare.png",), frozenset({1}))]
    assert all("rare.png" in split_units(units, FRACTIONS, seed)["labeled"] for seed in range(10))


def test_too_few_images_are_one_line_with_the_way_out():
    units = [Unit((f"{number}.png",), frozenset()) for number in range(2)]
    with pytest.raises(DataError, match=r"^2 different labelled images are too few.*label 3 or set data\.test"):
        split_units(units, FRACTIONS, 0)


def test_a_new_name_changes_the_order_of_no_other_two():
    names = [f"{number}.png" for number in range(30)]
    longer = seeded_order([*names, "new.png"], 3, "x")
    assert [name for name in longer if name != "new.png"] == seeded_order(names, 3, "x")
    assert seeded_order(names, 3, "x") != seeded_order(names, 3, "y") != names
