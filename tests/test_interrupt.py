"""The stop signal: recorded once, handlers restored, silent in other threads."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from sskd_core.errors import Interrupted
from sskd_core.interrupt import StopSignal


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_recorded_and_raised_at_the_next_check(number):
    with StopSignal() as stop:
        stop.check()
        os.kill(os.getpid(), number)
        assert stop.is_set
        with pytest.raises(Interrupted, match=number.name):
            stop.check()


def test_handlers_are_put_back_at_the_first_signal_and_at_the_end():
    seen = []
    earlier = signal.signal(signal.SIGTERM, lambda number, frame: seen.append(number))
    try:
        with StopSignal() as stop:
            os.kill(os.getpid(), signal.SIGTERM)
            assert seen == []
            os.kill(os.getpid(), signal.SIGTERM)
            assert seen == [signal.SIGTERM]
        with StopSignal() as stop:
            pass
        os.kill(os.getpid(), signal.SIGTERM)
        assert seen == [signal.SIGTERM] * 2
        assert not stop.is_set
    finally:
        signal.signal(signal.SIGTERM, earlier)


def test_another_thread_installs_nothing():
    before = signal.getsignal(signal.SIGTERM)
    inside = []

    def work():
        with StopSignal() as stop:
            stop.check()
            inside.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert inside == [before]
