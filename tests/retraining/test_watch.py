"""When it is time for a run; the clock is a list of numbers."""

from __future__ import annotations

import pytest

from sskd_core.errors import Interrupted
from sskd_core.retraining.watch import Watch, watch


def files(count: int) -> frozenset:
    return frozenset((f"{number}.jpg", 10) for number in range(count))


@pytest.mark.parametrize(
    ("looks", "due"),
    [
        ([(0, files(3)), (60, files(3))], [False, True]),
        ([(0, files(3)), (59, files(3)), (60, files(4)), (119, files(4)), (120, files(4))], [False] * 4 + [True]),
        ([(0, files(2)), (600, files(2))], [False, False]),
        (
            [(0, frozenset({("a.jpg", 1), ("b", 1), ("c", 1)})), (60, frozenset({("a.jpg", 2), ("b", 1), ("c", 1)}))],
            [False] * 2,
        ),
    ],
)
def test_enough_must_be_there_and_no_more_must_come(looks: list, due: list[bool]):
    state = Watch(min_new=3, quiet_seconds=60)
    assert [state.is_due(listing, now) for now, listing in looks] == due


def test_what_a_run_has_seen_is_not_new_again():
    state = Watch(min_new=2, quiet_seconds=0)
    assert state.is_due(files(3), 0)
    state.done(files(3), waiting=0)
    assert not state.is_due(files(3), 1)
    assert not state.is_due(files(4), 2)
    assert state.is_due(files(5), 3)


def test_what_was_too_little_for_a_run_counts_for_the_next():
    state = Watch(min_new=3, quiet_seconds=0)
    state.done(files(4), waiting=2)
    assert not state.is_due(files(4), 1), "the same two again are no reason to read everything again"
    assert state.is_due(files(5), 2)
    state.done(files(5), waiting=0)
    assert not state.is_due(files(6), 3)


def test_the_loop_looks_runs_and_waits_until_it_is_stopped():
    listings = iter([files(0), files(2), files(2), files(2), files(3), files(3)])
    times = iter(range(0, 600, 60))
    told: list[str] = []

    def run() -> int:
        told.append("run")
        return 0

    def wait() -> None:
        told.append("wait")
        if told.count("wait") == 6:
            raise Interrupted("stopped")

    with pytest.raises(Interrupted):
        watch(Watch(1, 60), lambda: next(listings), run, lambda: next(times), wait)
    assert told == ["wait", "wait", "run", "wait", "wait", "wait", "run", "wait"]


def test_a_run_that_is_refused_ends_the_loop():
    def refuse() -> int:
        raise Interrupted("refused")

    with pytest.raises(Interrupted, match="refused"):
        watch(Watch(1, 0), lambda: files(1), refuse, lambda: 0.0, lambda: None)
