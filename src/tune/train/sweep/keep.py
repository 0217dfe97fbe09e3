"""Of which trials the weights stay on disk, while a sweep runs and after it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tune.report.runs.files import checkpoints, weights
from tune.train.objective import is_better
from tune.train.sweep.leaderboard import Row


class Keep:
    """Removes the weights of trials that are done as soon as they are not the best.

    Those that are not done keep theirs: a chain goes on from the stages that it has finished.

    Args:
        which: all, best or none.
        objective: metric that says which is best.
        sweep_dir: what stands in other folders is left as it is.
        rows: the trials, of which some are done before.
    """

    def __init__(self, which: str, objective: str, sweep_dir: Path, rows: Iterable[Row]) -> None:
        self.which, self.objective, self.sweep_dir = which, objective, sweep_dir
        self.best: Row | None = None
        for row in rows:
            self.ended(row)

    def ended(self, row: Row) -> None:
        """Look at a trial that has ended."""
        if self.which == "all" or row.status != "done":
            return
        rivals: list[Row] = [row] if self.best is None else [row, self.best]
        rivals.sort(key=lambda each: each.number)
        self.best = best_of(rivals, self.objective) if self.which == "best" else None
        kept = self.best.run_dir if self.best else None  # equal trials share a folder
        for run_dir in {each.run_dir for each in rivals if each.run_dir is not None}:
            if run_dir != kept and run_dir.parent == self.sweep_dir:
                for path in [*weights(run_dir), *checkpoints(run_dir)]:
                    path.unlink()


def best_of(rows: Iterable[Row], objective: str) -> Row | None:
    """The trial that is done and best on the objective, the first on a tie; None if none has it."""
    best: Row | None = None
    for row in rows:
        value, before = row.metric(objective), None if best is None else best.metric(objective)
        if value is not None and (before is None or is_better(objective, value, before)):
            best = row
    return best
