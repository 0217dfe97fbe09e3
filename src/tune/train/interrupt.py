"""Ctrl-C and SIGTERM as an exception of our own: Lightning would turn Ctrl-C into exit code 1."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from typing import Any, final

from pytorch_lightning.callbacks import Callback

from tune.errors import Diverged, TuneError
from tune.train.sweep.causes import cause_of

_NUMBERS = (signal.SIGINT, signal.SIGTERM)


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
    before = {number: signal.getsignal(number) for number in _NUMBERS}

    def stop(number: int, frame: object) -> None:
        for each in _NUMBERS:
            signal.signal(each, signal.SIG_IGN)
        raise Interrupted(number)

    for number in _NUMBERS:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def judge(error: BaseException) -> tuple[str, int, str]:
    """Status, exit code and cause of whatever ended a run."""
    if isinstance(error, Interrupted):
        return "interrupted", error.exit_code, str(error)
    if isinstance(error, Diverged):
        return "diverged", error.exit_code, str(error)
    return "failed", 1, str(error) if isinstance(error, TuneError) else cause_of(error)


@final
class OwnSignals(Callback):
    """Takes the signals back from Lightning, which handles SIGTERM too while it runs.

    In a distributed run its handler broadcasts to the other ranks, wherever they are, and waits for them for ever.
    """

    def __init__(self) -> None:
        self.handlers = {number: signal.getsignal(number) for number in _NUMBERS}

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self._take_back()

    def on_test_start(self, trainer: Any, pl_module: Any) -> None:
        self._take_back()

    def _take_back(self) -> None:
        if threading.current_thread() is threading.main_thread():
            for number, handler in self.handlers.items():
                signal.signal(number, handler)
