"""Setting val and test apart from the labelled images: seeded, exact in size, rare classes seen to first.

Order comes from hashing (seed, purpose, name), not from a generator: it depends on no library version, and a new
image changes the order of no other two.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sskd_core.errors import DataError

REST = "labeled"


@dataclass(frozen=True)
class Unit:
    """Images that must stay together because their bytes are equal; most often a single one.

    Attributes:
        image_ids: the images.
        classes: indices of the classes that occur on them.
    """

    image_ids: tuple[str, ...]
    classes: frozenset[int]

    @property
    def name(self) -> str:
        """What it is shuffled by."""
        return self.image_ids[0]


def seeded_order(names: Iterable[str], seed: int, purpose: str) -> list[str]:
    """Return the names shuffled.

    Args:
        names: all different.
        seed: of the run.
        purpose: shuffles of different purposes are independent.
    """
    return sorted(names, key=lambda name: hashlib.sha256(f"{seed}/{purpose}/{name}".encode()).digest())


def split_units(units: Sequence[Unit], fractions: Mapping[str, float], seed: int) -> dict[str, list[str]]:
    """Set shares of the labelled images apart.

    First each class, the rarest first, gets a unit into the rest and then into every share that has none of it, as far
    as its units and the sizes allow. The shares are then filled in seeded order.

    Args:
        units: the labelled images.
        fractions: name of a share -> fraction of the units; below 1 together, with some left for the rest.
        seed: of the run.

    Returns:
        Share, or `labeled` for the rest -> sorted image ids. A share has its fraction of the units, rounded down, but
        at least one.

    Raises:
        DataError: too few units to give one to each share and one to the rest.
    """
    needed = len(fractions) + 1
    if len(units) < needed:
        names, keys = " and ".join(fractions), " and ".join(f"data.{name}" for name in fractions)
        raise DataError(
            f"{len(units)} different labelled images are too few to set {names} apart; label {needed} or set {keys}"
        )
    room = {name: max(1, int(len(units) * fraction + 1e-9)) for name, fraction in fractions.items()}
    room[REST] = len(units) - sum(room.values())
    by_name = {unit.name: unit for unit in units}
    ordered = [by_name[name] for name in seeded_order(by_name, seed, "split")]
    assigned = _cover_classes(ordered, room)
    _fill(ordered, room, assigned)
    return {
        share: sorted(item for unit in ordered if assigned[unit.name] == share for item in unit.image_ids)
        for share in room
    }


def _cover_classes(ordered: Sequence[Unit], room: Mapping[str, int]) -> dict[str, str]:
    """Give each share a unit of each class where possible; return unit name -> share."""
    assigned: dict[str, str] = {}
    left = dict(room)
    present: dict[str, set[int]] = defaultdict(set)
    with_class: dict[int, list[Unit]] = defaultdict(list)
    for unit in ordered:
        for index in unit.classes:
            with_class[index].append(unit)
    rarest_first = sorted(with_class, key=lambda index: (len(with_class[index]), index))
    for index in rarest_first:
        for share in [REST, *(name for name in room if name != REST)]:
            free = next((unit for unit in with_class[index] if unit.name not in assigned), None)
            if free is not None and left[share] and index not in present[share]:
                assigned[free.name] = share
                present[share] |= free.classes
                left[share] -= 1
    return assigned


def _fill(ordered: Sequence[Unit], room: Mapping[str, int], assigned: dict[str, str]) -> None:
    """Give the units that are left to the shares that have room."""
    taken = list(assigned.values())
    vacant = [share for share, size in room.items() for _ in range(size - taken.count(share))]
    free = [unit.name for unit in ordered if unit.name not in assigned]
    assigned.update(zip(free, vacant, strict=True))
