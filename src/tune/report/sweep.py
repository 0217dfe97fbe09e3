"""The folder of a sweep as its files tell it: its trials, done or not, and what was swept. Torch-free."""

from __future__ import annotations

import csv
import statistics
from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from tune.report.told import masked
from tune.run_dir import read_json

REPEATS = ("seed", "data.split.seed", "data.split.fold", "data.bootstrap", "ensemble.member")
"""Keys that tell repetitions of a trial apart."""


@dataclass(frozen=True)
class Trial:
    """One trial.

    Args:
        number: 1 … n.
        words: that made it.
        run_dir: its folder, or that of the trial it stands for; None while there is neither.
        record: run.json; empty while there is none.
    """

    number: int
    words: tuple[str, ...]
    run_dir: Path | None
    record: dict[str, Any]

    @property
    def status(self) -> str:
        """That of its run.json, or missing."""
        return self.record.get("status", "missing")

    def metric(self, name: str) -> float | None:
        """A metric of a finished trial."""
        return (self.record.get("metrics") or {}).get(name) if self.status == "done" else None

    def value(self, key: str) -> str:
        """Of a key in its words; empty where it is not there."""
        return next((word.partition("=")[2] for word in self.words if _key(word) == key), "")


@dataclass(frozen=True)
class Line:
    """Trials that differ in nothing but what tells repetitions apart."""

    trials: list[Trial]

    def values(self, metric: str) -> list[float]:
        """Of the trials that have one."""
        return [value for trial in self.trials if (value := trial.metric(metric)) is not None]

    def mean(self, metric: str) -> float | None:
        """None where no trial has it."""
        values = self.values(metric)
        return statistics.fmean(values) if values else None


@dataclass(frozen=True)
class Swept:
    """A sweep."""

    sweep_dir: Path

    @property
    def name(self) -> str:
        """Its short name."""
        return self.sweep_dir.name.removeprefix("sweep-")

    @cached_property
    def about(self) -> dict[str, Any]:
        """sweep.json."""
        return read_json(self.sweep_dir / "sweep.json")

    @property
    def objective(self) -> str:
        """The metric that the trials are compared by."""
        return self.about["objective"]

    @property
    def maximize(self) -> bool:
        """Whether more of it is better."""
        return self.about["maximize"]

    @cached_property
    def trials(self) -> list[Trial]:
        """All of the grid."""
        elsewhere = self._elsewhere()
        found = []
        for number, each in enumerate(self.about["trials"], start=1):
            run_dir = self.sweep_dir / str(number)
            folder = run_dir if (run_dir / "run.json").is_file() else elsewhere.get(number)
            record = read_json(folder / "run.json") if folder is not None else {}
            found.append(Trial(number, tuple(masked(word) for word in each["overrides"]), folder, record))
        return found

    @cached_property
    def keys(self) -> list[str]:
        """Keys with several values, but those that tell repetitions apart."""
        every = list(dict.fromkeys(_key(word) for trial in self.trials for word in trial.words))
        return [key for key in every if key not in REPEATS and len({trial.value(key) for trial in self.trials}) > 1]

    @cached_property
    def lines(self) -> list[Line]:
        """Best mean of the objective first; those without any last."""
        groups: dict[tuple[str, ...], list[Trial]] = defaultdict(list)
        for trial in self.trials:
            groups[tuple(trial.value(key) for key in self.keys)].append(trial)
        sign = -1 if self.maximize else 1

        def place(line: Line) -> tuple[bool, float]:
            mean = line.mean(self.objective)
            return mean is None, 0.0 if mean is None else sign * mean

        return sorted((Line(trials) for trials in groups.values()), key=place)

    def words(self, trial: Trial) -> str:
        """What a trial has of the keys with several values."""
        return " ".join(word for word in trial.words if _key(word) in self.keys)

    def _elsewhere(self) -> dict[int, Path]:
        """Folders of trials that stand in for others, as summary.csv names them."""
        path = self.sweep_dir / "summary.csv"
        if not path.is_file():
            return {}
        with path.open(newline="") as lines:
            named = {int(row["number"]): row["run_dir"] for row in csv.DictReader(lines)}
        beside = {number: self.sweep_dir / Path(text).name for number, text in named.items() if text}
        folders = {number: [beside[number], Path(text)] for number, text in named.items() if text}
        return {
            number: folder
            for number, some in folders.items()
            for folder in some[::-1]
            if (folder / "run.json").is_file()
        }


def _key(word: str) -> str:
    return word.lstrip("+~").partition("=")[0]
