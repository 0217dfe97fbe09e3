"""What the driver of a sweep says."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tune.train.sweep.groups import Groups
from tune.train.sweep.leaderboard import Row, label
from tune.train.sweep.plan import Plan


def first_line(rows: Sequence[Row], plan: Plan, groups: Groups, jobs: int, sweep_dir: Path) -> str:
    """What will be run, and what need not be."""
    counts = [f"{len(plan.missing)} to run, {jobs} at a time"]
    if number := _count(rows, "done"):
        counts.append(f"{number} done before")
    if number := _count(rows, "failed", "diverged"):
        counts.append(f"{number} failed before (--retry-failed runs them again)")
    if number := sum(len(copies) for copies in plan.copies.values()):
        counts.append(f"{number} equal to another")
    return f"{len(rows)} trials{groups.summary()}: {', '.join(counts)}   {sweep_dir}"


def success(row: Row, rows: list[Row], objective: str) -> str:
    """That a trial is done, and what came out."""
    value = row.metric(objective)
    result = "–" if value is None else f"{value:.3f}"
    text = f"trial {row.number}/{len(rows)} done  {objective} {result}  {row.seconds:.0f} s  "
    return f"{text}{label(row.overrides, rows)}".rstrip()


def failure(row: Row, rows: list[Row]) -> str:
    """That a trial is not done, why, and where to read on."""
    what = f" ({text})" if (text := label(row.overrides, rows)) else ""
    cause = f": {row.cause}" if row.cause else ""
    log = "" if row.run_dir is None else f"   log: {row.run_dir / 'run.log'}"
    return f"trial {row.number}/{len(rows)} {row.status}{cause}{what}{log}"


def closing_lines(rows: list[Row], code: int, seconds: float) -> list[str]:
    """Counts, what to do next, and each trial that is not done with its cause and log."""
    counts = [
        f"{number} {word}"
        for word, number in (
            ("done", _count(rows, "done")),
            ("failed", _count(rows, "failed", "diverged")),
            ("interrupted", _count(rows, "interrupted")),
            ("not started", _count(rows, "missing")),
        )
        if number or word in ("done", "failed")
    ]
    first = f"{', '.join(counts)} in {seconds:.0f} s"
    failed = [row for row in rows if row.status in ("failed", "diverged")]
    if code:
        first += f" (exit {code}).   The same command runs only what is missing"
        if failed:
            which = ", ".join(str(row.number) for row in failed)
            first += f"; --retry-failed includes trial{'s' if len(failed) > 1 else ''} {which}"
    return [first, *(failure(row, rows) for row in failed)]


def _count(rows: Sequence[Row], *statuses: str) -> int:
    return sum(row.status in statuses for row in rows)
