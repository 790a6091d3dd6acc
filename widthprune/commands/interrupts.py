"""Signals that ask a command to stop: an exception in the main thread, so that what was begun is cleaned up.

Python makes an exception of SIGINT alone; SIGTERM, which schedulers send, and SIGHUP end it on the spot.
"""

import os
import signal
import sys
import threading
from collections.abc import Mapping
from contextlib import contextmanager

NAMES = ("SIGINT", "SIGTERM", "SIGHUP")  # Windows has no SIGHUP
_outer = []  # the handlers that ours took the place of, the first ones first


class Interrupted(KeyboardInterrupt):
    """A signal asked the process to stop. Its text is one line, and ``status`` the exit status of a shell."""

    def __init__(self, number: int):
        super().__init__(
            f"stopped by {signal.Signals(number).name}: nothing half-written is left, and the same command "
            "goes on or starts again"
        )
        self.number = number
        self.status = 128 + number


@contextmanager
def interruptible():
    """Inside, `Interrupted` is raised wherever the main thread is when a signal to stop arrives."""

    def stop(number, frame):
        raise Interrupted(number)

    def unraisable(lost):
        # In a destructor or a callback an exception is only printed: send the signal again, when that is over.
        if isinstance(lost.exc_value, Interrupted):
            threading.Timer(0.01, _send, [lost.exc_value.number]).start()
        else:
            hook(lost)

    hook = sys.unraisablehook
    with _handled_by(stop):
        sys.unraisablehook = unraisable
        try:
            yield
        finally:
            sys.unraisablehook = hook


@contextmanager
def uninterrupted():
    """Signals to stop wait for the end of the block, which must be short: for cleaning up."""
    arrived = []
    try:
        with _handled_by(lambda number, frame: arrived.append(number)):
            yield
    finally:
        for number in arrived[:1]:
            signal.raise_signal(number)


@contextmanager
def _handled_by(handler):
    before = {}
    # Only the main thread may set handlers, and only it runs them.
    if threading.current_thread() is threading.main_thread():
        before = {number: signal.getsignal(number) for number in map(_number, NAMES) if number}
    # What is ignored stays so (nohup), and so does what was not set from Python (None).
    before = {number: old for number, old in before.items() if old not in (signal.SIG_IGN, None)}
    if before:  # in the main thread, which alone nests these
        _outer.append(before)
    try:
        for number in before:
            signal.signal(number, handler)
        yield
    finally:
        if before:
            _outer.pop()
        _restore(before)


def _restore(handlers: Mapping) -> None:
    for number, old in handlers.items():
        signal.signal(number, old)


def _restore_in_a_fork() -> None:
    """A process that a library forks, such as a pool's, ends at a signal as it would without us.

    A handler that raises may come too late for it, and whoever waits for it waits for ever.
    """
    for handlers in reversed(_outer):
        _restore(handlers)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_restore_in_a_fork)


def _send(number: int) -> None:
    if hasattr(signal, "pthread_kill"):  # which also wakes the main thread from a wait
        signal.pthread_kill(threading.main_thread().ident, number)
    else:
        signal.raise_signal(number)


def _number(name: str) -> int | None:
    return getattr(signal, name, None)
