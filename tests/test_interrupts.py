"""Signals that ask to stop: exceptions inside, what was there before outside."""

import os
import signal
import sys
import threading
import time

import pytest

from widthprune.commands.interrupts import Interrupted, interruptible, uninterrupted

STOPS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


@pytest.fixture(autouse=True)
def handlers():
    before = [signal.getsignal(number) for number in STOPS] + [sys.unraisablehook]
    yield
    assert [signal.getsignal(number) for number in STOPS] + [sys.unraisablehook] == before


@pytest.mark.parametrize("number", STOPS)
def test_a_signal_is_an_exception(number):
    with (
        pytest.raises(Interrupted, match=f"stopped by {signal.Signals(number).name}") as caught,
        interruptible(),
    ):
        signal.raise_signal(number)
    assert caught.value.status == 128 + number and isinstance(caught.value, KeyboardInterrupt)


def test_a_signal_waits_for_the_end_of_cleaning_up():
    done = []
    with pytest.raises(Interrupted), interruptible():
        with uninterrupted():
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGINT)
            done.append("cleaned up")
        done.append("gone on")
    assert done == ["cleaned up"]


def test_what_is_ignored_stays_so():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with interruptible(), uninterrupted():
            signal.raise_signal(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_signal_that_a_destructor_would_swallow():
    class Swallows:
        def __del__(self):
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(Interrupted), interruptible():
        Swallows()
        time.sleep(5)


def test_in_another_thread_nothing_changes():
    seen = []

    def work():
        with interruptible(), uninterrupted():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [signal.getsignal(signal.SIGTERM)]


def test_another_thread_leaves_the_handlers_of_the_main_one():
    entered, leave = threading.Event(), threading.Event()

    def clean_up():
        with uninterrupted():
            entered.set()
            leave.wait(5)

    worker = threading.Thread(target=clean_up)
    worker.start()
    entered.wait(5)
    with interruptible():
        inside = signal.getsignal(signal.SIGTERM)
        leave.set()
        worker.join(5)
        assert signal.getsignal(signal.SIGTERM) is inside


def test_a_forked_process_ends_as_it_would_without_us():
    """lm-eval's pool of processes could wait for ever for one whose handler came too late."""
    default = [signal.getsignal(number) for number in STOPS]
    with interruptible(), uninterrupted():
        if not (child := os.fork()):
            os._exit([signal.getsignal(number) for number in STOPS] != default)
        assert os.waitpid(child, 0)[1] == 0
        assert [signal.getsignal(number) for number in STOPS] != default
