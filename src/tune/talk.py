"""How `tune` speaks while it works: lines and bars on standard error, none of them with `--quiet`.

A bar is shown on a terminal alone; in a file or a pipe there are lines only. Colours are left out where `NO_COLOR` is
set, as Rich does. What a verb answers, and what went wrong, is not said here: it is printed whatever was asked for.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

quiet = False
"""Whether only answers and errors are wanted; set by the command line."""


def say(line: str) -> None:
    """Print a line about the work."""
    if not quiet:
        print(line, file=sys.stderr, flush=True)


def counted(number: int, one: str, many: str = "") -> str:
    """`1 image`, `2 images`; with `many` where that is more than an s."""
    return f"{number:,} {one if number == 1 else many or f'{one}s'}"


def is_watched() -> bool:
    """Whether somebody may be looking at a terminal that can move its cursor."""
    return not quiet and sys.stderr.isatty() and os.environ.get("TERM", "") != "dumb"


class Bar:
    """A bar with the time left, below the lines that are printed meanwhile; nothing where nobody watches.

    Args:
        title: stands before it.
        total: steps until it is full.
        done: steps that are behind already.
    """

    def __init__(self, title: str, total: int, done: int = 0) -> None:
        self.shown: Any = None
        if not is_watched():
            return
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()]
        columns.append(TextColumn("{task.fields[text]}"))
        self.shown = Progress(*columns, console=Console(stderr=True), transient=True)
        self.task = self.shown.add_task(title, total=total, completed=done, text="")
        self.shown.start()

    def update(self, done: int, title: str | None = None, text: str | None = None) -> None:
        """Move it.

        Args:
            done: steps that are behind.
            title: a new one, if any.
            text: what stands behind it, if anything new.
        """
        if self.shown is not None:
            fields = {} if text is None else {"text": text}
            self.shown.update(self.task, completed=done, description=title, **fields)

    def close(self) -> None:
        """Take it away."""
        if self.shown is not None:
            self.shown.stop()
            self.shown = None


@contextmanager
def bar(title: str, total: int) -> Iterator[Callable[[int, int], None]]:
    """A bar for as long as a block lasts; gives a function of (steps behind, steps in all)."""
    shown = Bar(title, total)
    try:
        yield lambda done, total: shown.update(done)
    finally:
        shown.close()
