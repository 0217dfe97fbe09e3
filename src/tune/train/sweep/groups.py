"""The trials of a sweep that train as one, in one process; and what becomes of them when that fails."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tune.train.fused.group import fuse_key, what_differs
from tune.train.sweep import ledger
from tune.train.sweep.leaderboard import Row
from tune.train.sweep.processes import Ended


class Groups:
    """What is to be started, each a list of trials: one that runs alone, or several that train as one.

    Args:
        missing: the trials to run, in order.
        sweep_dir: the sweep's folder.

    Attributes:
        waiting: not started yet, in the order of their first trials.
        trained: number of fused groups of which a trial is done.
    """

    def __init__(self, missing: Sequence[Row], sweep_dir: Path) -> None:
        self.sweep_dir, self.trained = sweep_dir, 0
        by_key: dict[str, list[Row]] = {}
        for row in missing:
            by_key.setdefault(fuse_key(row.config) or f"trial {row.number}", []).append(row)
        self.waiting = list(by_key.values())
        self.fused = [rows for rows in self.waiting if len(rows) > 1]
        self._running: dict[int, list[Row]] = {}

    def summary(self) -> str:
        """How many groups there are, and what tells them apart; empty if there is none."""
        if not self.fused:
            return ""
        differs = what_differs([[row.overrides for row in rows] for rows in self.fused])
        number = len(self.fused)
        return f" = {number} fused group{'s' if number > 1 else ''}{f' ({differs})' if differs else ''}" + (
            f" and {alone} alone" if (alone := len(self.waiting) - number) else ""
        )

    def started(self, rows: list[Row]) -> dict[str, Any]:
        """Take note of a start; what the records of these trials say of it."""
        self._running[rows[0].number] = rows
        return {"fused": self._number(rows)} if len(rows) > 1 else {}

    def log_of(self, rows: list[Row]) -> Path:
        """Where their process writes."""
        if len(rows) > 1:
            return self.sweep_dir / f"fused-{self._number(rows)}.log"
        assert rows[0].run_dir is not None
        return rows[0].run_dir / "run.log"

    def ended(self, number: int) -> list[Row]:
        """The trials whose process was started under the number of their first."""
        return self._running.pop(number)

    def alone(self, row: Row) -> None:
        """Let a trial of a group that died run by itself, before anything else."""
        assert row.run_dir is not None
        ledger.set_aside(row.run_dir)
        row.run_dir, row.status = None, "missing"
        self.waiting.insert(sum(len(rows) == 1 and rows[0].number < row.number for rows in self.waiting), [row])

    def verdict(self, rows: list[Row], ended: Ended) -> str:
        """What came of a group."""
        number, left = self._number(rows), [row for row in rows if row.status == "missing"]
        done = sum(row.status == "done" for row in rows)
        self.trained += done > 0
        text = f"group {number}/{len(self.fused)}: {done} of {len(rows)} trained as one in {ended.seconds:.0f} s"
        if left:
            text += f"; {len(left)} run one by one: {ended.cause}   log: {self.log_of(rows)}"
        return text

    def _number(self, rows: list[Row]) -> int:
        return 1 + next(number for number, group in enumerate(self.fused) if group is rows)
