"""How far a run is, as its files tell it while it writes them."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tune.report.runs.collect import Entry, read_entry
from tune.train.objective import is_better


@dataclass(frozen=True)
class Progress:
    """A run and how far it is.

    Args:
        entry: the run.
        part: folder of the stage that runs now, of a chain; else "".
        epoch: number of finished epochs.
        epochs: asked for.
        value: of the objective in the last of them; None before the first, or for NaN.
        best: the best so far.
        best_epoch: where that was.
        seconds: since it began, of one that has ended all that it took, as far as its files tell.
        seconds_left: by the time that its epochs took until now; None before the first, or once it has ended.
    """

    entry: Entry
    part: str
    epoch: int
    epochs: int
    value: float | None
    best: float | None
    best_epoch: int | None
    seconds: float
    seconds_left: float | None

    def as_json(self) -> dict[str, Any]:
        """What `--json` tells of it."""
        entry = self.entry
        about = {"run": entry.id, "run_dir": str(entry.run_dir), "name": entry.name, "status": entry.status}
        about |= {"cause": entry.record.get("cause", ""), "part": self.part, "epoch": self.epoch, "epochs": self.epochs}
        about |= {"objective": entry.objective, "value": self.value, "best": self.best, "best_epoch": self.best_epoch}
        return {**about, "seconds": round(self.seconds, 1), "seconds_left": self.seconds_left}


def progress(entry: Entry, now: float) -> Progress:
    """How far a run is.

    Args:
        entry: the run; of a chain the stage that runs is looked at.
        now: in seconds of the clock.
    """
    inside = [read_entry(folder) for folder in sorted(entry.run_dir.glob("*/"))] if entry.status == "running" else []
    stage = next((each for each in inside if each is not None and each.status == "running"), None)
    at = stage or entry
    rows, last = _rows(at.run_dir / "metrics.csv")
    values = [(int(row["epoch"]), float(row[at.objective])) for row in rows if row.get(at.objective)]
    best: tuple[int, float] | None = None
    for epoch, number in values:
        if number == number and (best is None or is_better(at.objective, number, best[1])):
            best = epoch, number
    epoch, epochs = len(rows), _epochs(at.run_dir)
    left, runs = None, entry.status == "running"
    if runs and (new := epoch - at.record.get("epochs_before", 0)) > 0:
        left = round(max(0.0, (epochs - epoch) * (last - at.written) / new - (now - last)), 1)
    value = values[-1][1] if values and values[-1][1] == values[-1][1] else None
    seconds = now - entry.written if runs else entry.record.get("seconds") or max(0.0, last - entry.written)
    best_epoch, best_value = best or (None, None)
    return Progress(
        entry, at.run_dir.name if stage else "", epoch, epochs, value, best_value, best_epoch, seconds, left
    )


def _rows(path: Path) -> tuple[list[dict[str, str]], float]:
    """Lines of metrics.csv, and when the last was written."""
    if not path.is_file():
        return [], 0.0
    with path.open(newline="") as lines:
        return list(csv.DictReader(lines)), path.stat().st_mtime


def _epochs(run_dir: Path) -> int:
    import yaml

    path = run_dir / "config.yaml"
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return yaml.load(path.read_text(), loader)["epochs"] if path.is_file() else 0
