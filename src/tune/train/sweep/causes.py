"""How a trial ended, in words."""

from __future__ import annotations

import signal

from tune.errors import TuneError

_LONGEST = 300  # characters of an exception's message that are shown; run.log holds all of it

_FAULTS: dict[int, str] = {
    signal.SIGSEGV: "segmentation fault",
    signal.SIGBUS: "bus error",
    signal.SIGABRT: "aborted",
}


def cause_of(error: BaseException) -> str:
    """Words for an exception: "out of memory", our own message, or "raised ValueError: …" (first line)."""
    names = {kind.__name__ for kind in type(error).__mro__}
    text = str(error)
    # torch has its own class for the GPU; its CPU allocator raises a RuntimeError that only the text tells apart.
    if names & {"MemoryError", "OutOfMemoryError"} or "can't allocate memory" in text:
        return "out of memory"
    if isinstance(error, TuneError):
        return text
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    line = next((line.strip() for line in text.splitlines() if line.strip()), "")
    line = line if len(line) <= _LONGEST else line[:_LONGEST] + "…"
    return f"raised {type(error).__name__}: {line}" if line else f"raised {type(error).__name__}"


def cause_of_end(code: int | None, signal_number: int | None, limit_s: float | None) -> str:
    """Words for the end of a process that left no result and said nothing.

    Args:
        code: exit code, None when a signal ended it.
        signal_number: the signal that ended it, or None.
        limit_s: the time limit in seconds when that is why it was ended, or None.
    """
    if limit_s is not None:
        return f"timed out after {limit_s:g} s"
    if signal_number is not None:
        return _FAULTS.get(signal_number) or f"killed by {_name(signal_number)}"
    return f"exit code {code}" if code else "ended without a result"


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return f"signal {number}"
