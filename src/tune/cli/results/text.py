"""How results are written down for people: columns, spans of time, sizes."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence


def aligned(rows: Sequence[Sequence[str]], indent: str = "") -> list[str]:
    """Lines with their cells below each other, cut where a terminal ends."""
    if not rows:
        return []
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        indent + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
    if not sys.stdout.isatty():
        return lines
    end = shutil.get_terminal_size().columns
    return [line if len(line) <= end else f"{line[: end - 1]}…" for line in lines]


def span(seconds: float | None) -> str:
    """A span of time in its two largest units; "–" for None."""
    if seconds is None:
        return "–"
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 100:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def value(number: float | None) -> str:
    """A metric; "–" for one that was not measured, or NaN."""
    return "–" if number is None else f"{number:.3f}"


def megabytes(size: int) -> str:
    """A size."""
    return f"{size / 1e6:,.1f} MB"
