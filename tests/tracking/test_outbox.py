from __future__ import annotations

import logging

import pytest

from sskd_core.errors import Interrupted
from sskd_core.tracking.outbox import Outbox


class Receiver:
    """A receiver that can be away, and a clock that stands still."""

    def __init__(self) -> None:
        self.now, self.away, self.received = 0.0, False, []
        self.tries = 0
        self.outbox = Outbox("the server", lambda error: isinstance(error, ValueError), lambda: self.now)

    def send(self, value: int) -> None:
        def write() -> None:
            self.tries += 1
            if self.away:
                raise ConnectionError("no route")
            if value < 0:
                raise ValueError("negative")
            self.received.append(value)

        self.outbox.add(write)
        self.outbox.deliver()


def test_in_order_and_at_once():
    receiver = Receiver()
    for value in range(3):
        receiver.send(value)
    assert receiver.received == [0, 1, 2]
    assert len(receiver.outbox) == 0


def test_what_fails_waits_and_arrives_in_order():
    receiver = Receiver()
    receiver.away = True
    for value in range(3):
        receiver.send(value)
    assert len(receiver.outbox) == 3
    assert receiver.tries == 1, "the receiver is left alone after a fault"
    receiver.away, receiver.now = False, 31.0
    receiver.send(3)
    assert receiver.received == [0, 1, 2, 3]


def test_the_rests_grow_to_a_bound_and_start_anew():
    receiver = Receiver()
    receiver.away = True
    rests = []
    receiver.send(0)
    for _ in range(6):
        start = receiver.now
        while receiver.outbox.is_resting:
            receiver.now += 1
        rests.append(receiver.now - start)
        receiver.outbox.deliver()
    assert rests == [30, 60, 120, 240, 480, 600]
    receiver.away = False
    receiver.outbox.deliver(insist=True)
    assert receiver.received == [0]
    receiver.away = True
    receiver.now += 1000
    receiver.send(1)
    receiver.now += 31
    assert not receiver.outbox.is_resting


def test_insisting_does_not_wait():
    receiver = Receiver()
    receiver.away = True
    receiver.send(0)
    receiver.away = False
    receiver.outbox.deliver()
    assert receiver.received == []
    receiver.outbox.deliver(insist=True)
    assert receiver.received == [0]


def test_a_refused_write_does_not_hold_up_the_others(caplog: pytest.LogCaptureFixture):
    receiver = Receiver()
    with caplog.at_level(logging.WARNING):
        receiver.send(-1)
    receiver.send(1)
    assert receiver.received == [1]
    assert "the server refuses a record: negative" in caplog.text


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_signal_to_stop_comes_through(wrapped: bool):
    def stopped() -> None:
        try:
            raise Interrupted("stopped by SIGTERM")
        except Interrupted as error:
            if wrapped:
                raise RuntimeError("the database says: stopped") from error
            raise

    outbox = Outbox("the server", lambda error: False)
    outbox.add(stopped)
    with pytest.raises(Interrupted):
        outbox.deliver()
