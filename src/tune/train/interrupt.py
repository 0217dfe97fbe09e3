"""Ctrl-C and SIGTERM as an exception of our own: Lightning would turn Ctrl-C into exit code 1."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator


class Interrupted(BaseException):
    """A signal asked the run to stop.

    What the last finished epoch saved is whole, and whatever came after is trained again exactly on resume, so there
    is nothing to save at this moment.
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.exit_code = 130 if number == signal.SIGINT else 75


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Raise `Interrupted` inside this block at SIGINT or SIGTERM; a second one is ignored until the block is left."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.getsignal(number) for number in numbers}

    def stop(number: int, frame: object) -> None:
        for each in numbers:
            signal.signal(each, signal.SIG_IGN)
        raise Interrupted(number)

    for number in numbers:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
